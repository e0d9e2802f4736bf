//! The flags of a run's settings, made from the table in `types::config`: one flag a setting, nothing written twice.

use clap::{Arg, ArgMatches, Command, parser::ValueSource};
use serde_json::{Map, Value};
use types::{
    config::FIELDS,
    field::{Ends, Fallback, Field, Kind},
};

/// The settings given as flags, by the settings' names, still unchecked.
#[derive(Debug, Clone, Default)]
pub struct SettingFlags(pub Map<String, Value>);

/// `lora_r` is `--lora-r`.
pub fn flag_of(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FIELDS.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for field in FIELDS {
            if matches.value_source(field.name) == Some(ValueSource::CommandLine)
                && let Some(text) = matches.get_one::<String>(field.name)
            {
                self.0.insert(field.name.to_owned(), field.kind.parse_flag(text));
            }
        }
        Ok(())
    }
}

fn arg(field: &'static Field) -> Arg {
    let long = field.name.replace('_', "-");
    let arg = Arg::new(field.name)
        .long(long)
        .help(format!("{} {}", field.help, notes(field)))
        .help_heading("Settings of the run")
        .value_name(value_name(&field.kind))
        .conflicts_with("resume");
    let arg = if field.name.contains('_') { arg.alias(field.name) } else { arg };
    match field.kind {
        Kind::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::Int { .. } | Kind::Float { .. } => arg.allow_negative_numbers(true),
        Kind::Text | Kind::LongText | Kind::TextList | Kind::Choice { .. } | Kind::Json { .. } => arg,
    }
}

fn value_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Choice { .. } => "CHOICE",
        Kind::Text | Kind::LongText => "TEXT",
        Kind::Json { .. } => "JSON",
        Kind::TextList => "A,B,…",
        Kind::Bool => "true|false",
        Kind::Int { .. } => "N",
        Kind::Float { .. } => "X",
    }
}

/// The range and the default, as `[1 to 256; default: 16]`.
fn notes(field: &Field) -> String {
    let default = match field.default {
        Fallback::Required => "required".to_owned(),
        Fallback::Text(text) | Fallback::Found(text) | Fallback::ByStrategy(text) => {
            format!("default: {text}")
        }
        Fallback::Int(n) => format!("default: {n}"),
        Fallback::Float(x) => format!("default: {x}"),
        Fallback::Bool(b) => format!("default: {b}"),
    };
    match range(&field.kind) {
        Some(range) => format!("[{range}; {default}]"),
        None => format!("[{default}]"),
    }
}

fn range(kind: &Kind) -> Option<String> {
    match *kind {
        Kind::Choice { values } => Some(values.join(", ")),
        Kind::Int { min, max } if max < i64::from(i32::MAX) => Some(format!("{min} to {max}")),
        Kind::Int { min, .. } => Some(format!("at least {min}")),
        Kind::Float { min, max: f64::MAX, .. } => Some(format!("at least {min}")),
        Kind::Float { min, max, ends: Ends::Both } => Some(format!("{min} to {max}")),
        Kind::Float { min, max, ends: Ends::Lower } => Some(format!("at least {min}, below {max}")),
        Kind::Float { min, max, ends: Ends::Upper } => Some(format!("above {min}, at most {max}")),
        Kind::Text | Kind::LongText | Kind::TextList | Kind::Bool | Kind::Json { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};
    use serde_json::json;

    use super::*;

    fn parse(args: &[&str]) -> Result<Map<String, Value>, clap::Error> {
        let command =
            SettingFlags::augment_args(Command::new("train")).arg(Arg::new("resume").long("resume"));
        let matches = command.try_get_matches_from([&["train"], args].concat())?;
        Ok(SettingFlags::from_arg_matches(&matches)?.0)
    }

    #[test]
    fn every_kind_of_setting_is_read_as_its_json_value() {
        for (args, want) in [
            (&["--lora-r", "8"][..], json!({"lora_r": 8})),
            (&["--lora_r=8"], json!({"lora_r": 8})),
            (&["--max-steps", "-1"], json!({"max_steps": -1})),
            (&["--learning-rate", "1e-3"], json!({"learning_rate": 1e-3})),
            (&["--packing"], json!({"packing": true})),
            (&["--packing=false"], json!({"packing": false})),
            (&["--packing", "--bf16"], json!({"packing": true, "bf16": true})),
            (&["--target-modules", "q_proj, v_proj"], json!({"target_modules": ["q_proj", "v_proj"]})),
            (&["--task", "summarization"], json!({"task": "summarization"})),
            (&[], json!({})),
        ] {
            assert_eq!(Value::Object(parse(args).unwrap()), want, "{args:?}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_reaches_the_check_of_the_settings() {
        let flags = parse(&["--lora-r", "eight", "--packing=maybe"]).unwrap();
        for (name, value) in &flags {
            let field = FIELDS.iter().find(|f| f.name == name).unwrap();
            assert!(
                field.kind.check(name, value).is_err(),
                "{name} = {value} is refused with the field's name"
            );
        }
        assert_eq!(flags.len(), 2);
    }

    #[test]
    fn a_run_that_is_resumed_takes_no_settings() {
        assert!(
            parse(&["--resume", "train_1", "--lora-r", "8"]).is_err(),
            "a resumed run keeps its settings"
        );
    }

    #[test]
    fn the_help_tells_range_and_default_of_every_setting() {
        for field in FIELDS {
            let notes = notes(field);
            assert!(notes.contains("default: ") || notes.contains("required"), "{}: {notes}", field.name);
        }
        let of = |name: &str| notes(FIELDS.iter().find(|f| f.name == name).unwrap());
        assert_eq!(of("lora_r"), "[1 to 256; default: 16]");
        assert_eq!(of("lora_dropout"), "[at least 0, below 1; default: 0.1]");
        assert_eq!(of("weight_decay"), "[at least 0; default: 0.001]");
    }
}
