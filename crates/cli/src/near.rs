//! Names that somebody may have meant.

/// Names that are suggested at most.
const MOST: usize = 3;

/// How alike a name must be, from 0 to 1.
const LIKE: f64 = 0.6;

/// Longer names are not compared, nor more of them: a comparison takes the product of both lengths.
const LONGEST: usize = 256;
const COMPARED: usize = 20_000;

/// The names nearest to `wanted`: those that contain it, and those that are spelled like it.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    if wanted.is_empty() || wanted.len() > LONGEST {
        return Vec::new();
    }
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        // The shorter what is around it, the nearer.
        let contains = name.contains(&wanted) || wanted.contains(&name);
        let part = wanted.len().min(name.len()) as f64 / wanted.len().max(name.len()) as f64;
        let spelled = strsim::normalized_levenshtein(&wanted, &name);
        if contains { 1.0 + part } else { spelled }
    };
    let names = names.filter(|name| !name.is_empty() && name.len() <= LONGEST).take(COMPARED);
    let mut found: Vec<_> = names.map(|name| (likeness(name), name)).collect();
    found.retain(|(likeness, _)| *likeness >= LIKE);
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found.into_iter().take(MOST).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn slips_and_parts_lead_to_names() {
        let names = ["model.embed.weight", "model.0.q_proj.weight", "model.0.k_proj.weight", "x"];
        let near = |wanted| super::near(wanted, names.into_iter());
        assert_eq!(near("model.embed_weight"), ["model.embed.weight"]);
        assert_eq!(near("Q_proj"), ["model.0.q_proj.weight"]);
        assert_eq!(near("model.1.q_proj.weight")[0], "model.0.q_proj.weight");
        assert!(near("completely else").is_empty() && near("").is_empty());
        assert!(near(&"n".repeat(1 << 16)).is_empty());
    }
}
