//! How wide a stream's terminal is, and whether it shows colours. A pipe or a file has neither.

use console::{Style, Term};

/// What is known of stdout or stderr.
#[derive(Clone, Copy, Default)]
pub(crate) struct Screen {
    /// Columns of the terminal.
    pub(crate) width: Option<usize>,
    /// Off in pipes, with `NO_COLOR` and on terminals that have none.
    pub(crate) color: bool,
}

impl Screen {
    /// Asks for the width again each time: windows change.
    pub(crate) fn stdout() -> Self {
        Self::of(&Term::stdout(), console::colors_enabled())
    }

    /// The same of stderr.
    pub(crate) fn stderr() -> Self {
        Self::of(&Term::stderr(), console::colors_enabled_stderr())
    }

    fn of(term: &Term, color: bool) -> Self {
        Self { width: term.size_checked().map(|(_, columns)| columns.into()), color }
    }

    /// The heading of a table.
    pub(crate) fn heading(self, text: &str) -> String {
        self.styled(text, |style| style.bold())
    }

    /// What a line about an error begins with.
    pub(crate) fn error(self, text: &str) -> String {
        self.styled(text, |style| style.red().bold())
    }

    /// The same of a warning.
    pub(crate) fn warning(self, text: &str) -> String {
        self.styled(text, |style| style.yellow().bold())
    }

    fn styled(self, text: &str, style: fn(Style) -> Style) -> String {
        if !self.color {
            return text.to_owned();
        }
        style(Style::new().force_styling(true)).apply_to(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_text_stays_as_it_is() {
        let plain = Screen::default();
        assert_eq!(plain.heading("a") + &plain.error("b") + &plain.warning("c"), "abc");
        let colored = Screen { color: true, ..plain };
        assert_eq!(colored.heading("a"), "\u{1b}[1ma\u{1b}[0m");
    }
}
