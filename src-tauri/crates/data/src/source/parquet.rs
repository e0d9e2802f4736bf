//! Parquet, row by row. It has no lines: errors count rows.

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use parquet::{
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
    record::{Field, reader::RowIter},
};
use serde_json::{Map, Number, Value};

use super::{BadRow, Format, Found, MAX_COLUMNS, MAX_ROW_BYTES};
use crate::error::FileProblem;

/// Rows of a Parquet file.
pub(super) struct Parquet {
    rows: RowIter<'static>,
    ended: bool,
}

impl Parquet {
    pub(super) fn open(file: File) -> Result<Self, FileProblem> {
        let opened = guarded(|| {
            let reader = SerializedFileReader::new(file)?;
            let columns = reader.metadata().file_metadata().schema_descr().num_columns();
            Ok((columns, RowIter::from_file_into(Box::new(reader))))
        });
        let (columns, rows) = opened.map_err(FileProblem::Damaged)?;
        if columns > MAX_COLUMNS {
            return Err(FileProblem::TooManyColumns(columns));
        }
        Ok(Self { rows, ended: false })
    }
}

/// The parquet crate indexes by numbers it reads from the file, so a damaged file can make it panic.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("a page contradicts the file's description".to_owned()),
    }
}

impl Format for Parquet {
    fn next_row(&mut self) -> Option<io::Result<Found>> {
        if self.ended {
            return None;
        }
        match guarded(|| self.rows.next().transpose()) {
            Ok(Some(row)) => Some(Ok(Found { line: None, content: object(row.into_columns()) })),
            Ok(None) => None,
            Err(message) => {
                self.ended = true;
                Some(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the file is damaged: {message}"),
                )))
            }
        }
    }
}

fn object(columns: Vec<(String, Field)>) -> Result<Map<String, Value>, BadRow> {
    let mut room = MAX_ROW_BYTES;
    let mut values = Map::new();
    for (name, field) in columns {
        let value = json(&field, &mut room).map_err(|message| BadRow {
            line: None,
            message: format!("field \"{name}\" {message}"),
            field: Some(name.clone()),
        })?;
        values.insert(name, value);
    }
    Ok(values)
}

fn json(field: &Field, room: &mut usize) -> Result<Value, &'static str> {
    let text = |text: &str, room: &mut usize| -> Result<Value, &'static str> {
        *room = room.checked_sub(text.len()).ok_or("makes the row too long")?;
        Ok(Value::String(text.to_owned()))
    };
    let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(x) => Value::Bool(*x),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float16(x) => float(f64::from(x.to_f32())),
        Field::Float(x) => float(f64::from(*x)),
        Field::Double(x) => float(*x),
        Field::Str(x) => text(x, room)?,
        Field::Bytes(x) => text(std::str::from_utf8(x.data()).map_err(|_| "is not UTF-8")?, room)?,
        Field::Group(row) => {
            let mut values = Map::new();
            for (name, field) in row.get_column_iter() {
                values.insert(name.clone(), json(field, room)?);
            }
            Value::Object(values)
        }
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(|f| json(f, room)).collect::<Result<_, _>>()?)
        }
        Field::MapInternal(map) => {
            let mut values = Map::new();
            for (key, value) in map.entries() {
                let key = match key {
                    Field::Str(key) => key.clone(),
                    other => other.to_string(),
                };
                values.insert(key, json(value, room)?);
            }
            Value::Object(values)
        }
        dates_and_times => Value::String(dates_and_times.to_string()),
    })
}
