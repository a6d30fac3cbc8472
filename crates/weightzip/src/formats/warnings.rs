//! What is wrong with a file, in words that stay short whatever the file holds.

/// Most warnings about one file; of the rest only the number is told.
const SHOWN: usize = 20;

/// Most characters of a name in a warning.
const QUOTED: usize = 80;

/// Warnings about parts of a file: the first few, and how many more there are.
#[derive(Default)]
pub(super) struct Warnings {
    first: Vec<String>,
    more: usize,
}

impl Warnings {
    pub(super) fn add(&mut self, warning: impl FnOnce() -> String) {
        match self.first.len() < SHOWN {
            true => self.first.push(warning()),
            false => self.more += 1,
        }
    }

    /// Notes that a tensor is not found as one, and why.
    pub(super) fn opaque(&mut self, what: &str, name: &str, why: &str) {
        self.add(|| format!("{what} {} is kept as opaque bytes: {why}", quoted(name)));
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more like these", self.more));
        }
        self.first
    }
}

/// A name in quotes, with its middle left out if it is long.
pub(super) fn quoted(name: &str) -> String {
    let count = name.chars().count();
    if count <= QUOTED {
        return format!("{name:?}");
    }
    let (head, tail) = (QUOTED / 2, count - QUOTED / 2);
    let part = |from, len| name.chars().skip(from).take(len).collect::<String>();
    format!("{:?}...{:?}", part(0, head), part(tail, QUOTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_few_and_short() {
        let mut warnings = Warnings::default();
        (0..200_000).for_each(|_| warnings.opaque("tensor", &"é".repeat(1 << 10), "it is odd"));
        let told = warnings.finish();
        assert_eq!((told.len(), told[SHOWN].as_str()), (SHOWN + 1, "and 199980 more like these"));
        assert!(told.iter().all(|warning| warning.len() < 300), "{}", told[0]);
    }
}
