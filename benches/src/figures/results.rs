//! Results under `benches/results/`: JSON, each with its date.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The folder, and what was read of it.
pub(super) struct Results {
    folder: PathBuf,
    read: RefCell<HashMap<String, Rc<Value>>>,
}

impl Results {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, read: RefCell::default() }
    }

    /// The number at a path of a file: in a comparison, `scenario|case|server|median|measure`; elsewhere names of members.
    pub(super) fn value(&self, file: &str, path: &str) -> anyhow::Result<f64> {
        let result = self.result(file)?;
        let names: Vec<&str> = path.split('|').collect();
        let found = match (&result["scenarios"], &names[..]) {
            (Value::Array(sections), [scenario, case, server, rest @ ..]) => {
                let section = sections.iter().find(|section| section["scenario"] == *scenario);
                let rows = section.and_then(|section| section["rows"].as_array());
                let row = rows.and_then(|rows| {
                    rows.iter().find(|row| row["case"] == *case && row["server"] == *server)
                });
                row.and_then(|row| member(row, rest))
            }
            _ => member(&result, &names),
        };
        found.and_then(Value::as_f64).with_context(|| format!("{file} has no number {path:?}"))
    }

    fn result(&self, file: &str) -> anyhow::Result<Rc<Value>> {
        if let Some(known) = self.read.borrow().get(file) {
            return Ok(Rc::clone(known));
        }
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let result: Value = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let has_date = ["machine", "host"].into_iter().any(|name| result[name]["date"].is_string());
        ensure!(has_date, "{file} does not say when and on what it was measured");
        let result = Rc::new(result);
        self.read.borrow_mut().insert(file.to_owned(), Rc::clone(&result));
        Ok(result)
    }
}

fn member<'v>(value: &'v Value, names: &[&str]) -> Option<&'v Value> {
    names.iter().try_fold(value, |value, name| match value {
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        _ => value.get(name),
    })
}
