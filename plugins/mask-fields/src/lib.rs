//! Masks, hashes or drops fields of JSON values, and drops whole records, so that what must not be kept never reaches the log.
//!
//! Only what is named is written anew: every other byte of a value stays as the producer sent it, numbers and spacing included.

use sha2::{Digest, Sha256};
use tidegate_plugin::json::{self, Path};
use tidegate_plugin::{
    Change, Columns, Config, Origin, Record, Reject, RejectCode, Transform, export_transform,
};

const MASK: &str = "\"***\"";

struct MaskFields {
    fields: Vec<(Path, Action)>,
    drop_records: Vec<(Path, String)>,
    salt: String,
    not_json: NotJson,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Mask,
    Hash,
    Drop,
}

#[derive(Clone, Copy)]
enum NotJson {
    Reject,
    Drop,
    Pass,
}

impl Transform for MaskFields {
    fn new(config: &Config) -> Result<Self, String> {
        config.only(&[
            "mask",
            "hash",
            "hash-salt",
            "drop",
            "drop-record-when",
            "not-json",
        ])?;
        let mut fields = Vec::new();
        for (setting, action) in [
            ("drop", Action::Drop),
            ("mask", Action::Mask),
            ("hash", Action::Hash),
        ] {
            for field in config.list(setting) {
                fields.push((Path::parse(field)?, action));
            }
        }
        let mut drop_records = Vec::new();
        for condition in config.list("drop-record-when") {
            let (field, value) = condition.split_once('=').ok_or_else(|| {
                format!(
                    "the setting \"drop-record-when\" has {condition:?}, which is not field=value"
                )
            })?;
            drop_records.push((Path::parse(field.trim())?, value.trim().to_owned()));
        }
        if fields.is_empty() && drop_records.is_empty() {
            return Err(
                "none of the settings mask, hash, drop and drop-record-when is given".into(),
            );
        }
        Ok(Self {
            fields,
            drop_records,
            salt: config.get("hash-salt").unwrap_or_default().to_owned(),
            not_json: config.choice(
                "not-json",
                &[
                    ("reject", NotJson::Reject),
                    ("drop", NotJson::Drop),
                    ("pass", NotJson::Pass),
                ],
            )?,
        })
    }

    fn columns(&self) -> Columns {
        Columns {
            value: true,
            ..Columns::NONE
        }
    }

    fn transform(&self, record: &Record<'_>, _origin: &Origin<'_>) -> Result<Change, Reject> {
        // A null value is a tombstone: it has no fields.
        let Some(value) = record.value else {
            return Ok(Change::Keep);
        };
        match self.change(value) {
            Ok(change) => Ok(change),
            Err(error) => match self.not_json {
                NotJson::Pass => Ok(Change::Keep),
                NotJson::Drop => Ok(Change::Drop),
                NotJson::Reject => Err(Reject::new(
                    RejectCode::Malformed,
                    format!("the value is not JSON: {error}"),
                )),
            },
        }
    }
}

export_transform!(MaskFields);

impl MaskFields {
    fn change(&self, value: &[u8]) -> Result<Change, json::Error> {
        for (path, wanted) in &self.drop_records {
            if json::at(value, path)?
                .iter()
                .any(|found| found.plain() == *wanted)
            {
                return Ok(Change::Drop);
            }
        }
        let new = json::rewrite(value, &self.fields, |action, old| match action {
            Action::Drop => None,
            Action::Mask => Some(MASK.into()),
            Action::Hash => Some(self.hash(&old.plain()).into()),
        })?;
        Ok(match new {
            Some(new) => Change::Value(Some(new)),
            None => Change::Keep,
        })
    }

    /// The same value gives the same text, which joins and counts still work on: 128 bits of SHA-256 over salt and value.
    fn hash(&self, value: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.salt);
        digest.update(value);
        let hex: String = digest.finalize()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("\"{hex}\"")
    }
}

#[cfg(test)]
mod tests;
