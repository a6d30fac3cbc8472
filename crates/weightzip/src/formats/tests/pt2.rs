//! Exported programs: what says what is in their members, and twins that lie.

use super::{archive, checkpoint, dict, found, tensor, tensors};
use crate::{Dtype, Format};

/// What is said of a tensor of BF16 in a member.
fn said(member: &str, sizes: &[u64], strides: &[u64]) -> String {
    let numbers = |numbers: &[u64]| {
        let numbers: Vec<_> = numbers.iter().map(|n| format!(r#"{{"as_int": {n}}}"#)).collect();
        numbers.join(", ")
    };
    let (sizes, strides) = (numbers(sizes), numbers(strides));
    format!(
        r#"{{"path_name": "{member}", "is_param": true, "use_pickle": false, "tensor_meta":
        {{"dtype": 13, "sizes": [{sizes}], "strides": [{strides}], "storage_offset": {{"as_int": 0}}, "layout": 7}}}}"#
    )
}

fn config(tensors: &[(&str, String)]) -> String {
    let tensors: Vec<_> =
        tensors.iter().map(|(name, said)| format!("\"{name}\": {said}")).collect();
    format!(r#"{{"config": {{{}}}}}"#, tensors.join(", "))
}

fn program(config: &str, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = members.to_vec();
    all.push(("m/data/weights/model_weights_config.json", config.as_bytes()));
    all.push(("m/archive_format", b"pt2"));
    archive(&all)
}

#[test]
fn weights_of_a_program_are_found() {
    let (first, second) = ([1; 12], [2; 8]);
    let config = config(&[
        ("w", said("weight_0", &[2, 3], &[3, 1])),
        ("w.tied", said("weight_0", &[2, 3], &[3, 1])),
        ("part", said("weight_1", &[2], &[2])),
        ("gone", said("weight_2", &[2], &[1])),
    ]);
    let pickle = dict(&[("x", tensor("0", 6, 0, &[6], &[1]))]);
    let inner = checkpoint(&pickle, &[("0", &[3; 12])]);
    let file = program(
        &config,
        &[
            ("m/data/weights/weight_0", &first),
            ("m/data/weights/weight_1", &second),
            ("m/data/sample_inputs/model.pt", &inner),
        ],
    );
    let layout = found(&file);
    assert_eq!((layout.format, &layout.warnings[..]), (Format::Pytorch, &[][..]));
    let expected: [(&str, _, &[u64]); 3] = [
        ("w", Dtype::Bf16, &[2, 3]),
        ("part", Dtype::Bf16, &[4]),
        ("m/data/sample_inputs/model.x", Dtype::Bf16, &[6]),
    ];
    assert_eq!(tensors(&layout), expected);
}

#[test]
fn weights_that_are_pickled_have_their_names() {
    let bare = [b"\x80\x02", &tensor("0", 6, 0, &[6], &[1])[..], b"."].concat();
    let inner = checkpoint(&bare, &[("0", &[3; 12])]);
    let said =
        said("weight_0", &[6], &[1]).replace("\"use_pickle\": false", "\"use_pickle\": true");
    let file = program(&config(&[("w", said)]), &[("m/data/weights/weight_0", &inner)]);
    assert_eq!(tensors(&found(&file)), [("w", Dtype::Bf16, &[6][..])]);
}

#[test]
fn what_is_said_wrong_costs_one_tensor() {
    let good = || ("w", said("weight_0", &[6], &[1]));
    let members: [(&str, &[u8]); 2] =
        [("m/data/weights/weight_0", &[1; 12]), ("m/data/weights/weight_1", &[2; 9])];
    for odd in [
        said("weight_1", &[4], &[1]),
        said("weight_1", &[4], &[1]).replace("13", "99"),
        said("weight_1", &[4], &[1]).replace("as_int", "as_expr"),
    ] {
        let layout = found(&program(&config(&[good(), ("odd", odd)]), &members));
        assert_eq!(tensors(&layout), [("w", Dtype::Bf16, &[6][..])]);
        assert!(layout.warnings[0].contains("\"odd\" is kept as opaque bytes"), "{layout:?}");
    }
    for config in ["", "{", "[]", r#"{"config": {"a": 1}}"#] {
        let layout = found(&program(config, &members));
        assert_eq!((tensors(&layout).len(), layout.warnings.len()), (0, 1), "{config}");
    }
}
