//! File id → path beneath the root.

use sluice_shared::file_id::FileId;

/// Where a file id lies beneath the root: `{file_id}`, `{file_id}.pdf`, `files/{file_id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    before: String,
    after: String,
}

/// A template that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must contain {{file_id}} exactly once and lead to a path beneath the root")]
pub(crate) struct TemplateError;

impl PathTemplate {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let (before, after) = text.split_once("{file_id}").ok_or(TemplateError)?;
        let example = format!("{before}x{after}");
        if after.contains("{file_id}") || FileId::parse(example.as_str()).is_err() {
            return Err(TemplateError);
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    pub(crate) fn path(&self, file_id: &str) -> String {
        [&self.before, file_id, &self.after].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_the_file_once_beneath_the_root() {
        let template = PathTemplate::parse("files/{file_id}.pdf").unwrap();
        assert_eq!(template.path("a/b"), "files/a/b.pdf");
        for text in
            ["", "x", "{file_id}{file_id}", "/{file_id}", "../{file_id}", "{file_id}/..", "a//{file_id}"]
        {
            assert_eq!(PathTemplate::parse(text), Err(TemplateError), "{text}");
        }
    }
}
