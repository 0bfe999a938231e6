//! A scenario file's text, and problems that point into it.
//!
//! Every problem has a place: file, line, column, and a caret under the words it is about. All problems of one file are
//! reported at once, in the order of the file, so that nobody has to run the command again for each of them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// A place in the text, in bytes.
pub type Span = Range<usize>;

/// A scenario file's name and text.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it was read from; shown as it was given.
    pub path: PathBuf,
    /// What it says.
    pub text: Arc<str>,
}

impl Source {
    /// A text under a name.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The folder to which names of other files in the text are relative.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// The text at a place, in one line.
    pub fn excerpt(&self, span: &Span) -> String {
        self.text.get(span.clone()).unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Something wrong at one place of a scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, as one sentence.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What stands under the caret.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// All that is wrong with one scenario file. Never empty.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The file.
    pub source: Source,
    /// In the order of the file.
    pub list: Vec<Problem>,
}

struct Located<'a>(&'a Problem, NamedSource<Arc<str>>);

impl fmt::Debug for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Located<'_> {}

impl Diagnostic for Located<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.1)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.0.span.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(self.0.label.clone()), span))))
    }
}

/// Renders one problem with its place in the text. `colour` is for terminals.
pub fn render(source: &Source, problem: &Problem, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let named = NamedSource::new(source.path.display().to_string(), source.text.clone()).with_language("toml");
    let located = Located(problem, named);
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_context_lines(1);
    if handler.render_report(&mut out, &located).is_err() {
        // A span outside of the text; say at least what and in which file.
        out = format!("{}: {}\n", source.path.display(), problem.message);
    }
    out
}

impl Problems {
    /// All problems, rendered one after the other.
    pub fn render(&self, colour: bool) -> String {
        self.list.iter().map(|p| render(&self.source, p, colour)).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, p) in self.list.iter().enumerate() {
            let (line, column) = self.source.line_column(p.span.start);
            let lead = if i == 0 { "" } else { "\n" };
            write!(f, "{lead}{}:{line}:{column}: {}", self.source.path.display(), p.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
