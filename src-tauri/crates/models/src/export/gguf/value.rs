//! Values of GGUF's metadata and how they are written.
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

use std::io::{self, Write};

/// A value of one of the types that are written here.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number or an id.
    U32(u32),
    /// A number.
    F32(f32),
    /// true or false.
    Bool(bool),
    /// UTF-8.
    Text(String),
    /// Numbers.
    I32s(Vec<i32>),
    /// Numbers.
    F32s(Vec<f32>),
    /// Texts.
    Texts(Vec<String>),
}

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl Value {
    /// Its type and itself.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let tag = |out: &mut dyn Write, tag: u32| out.write_all(&tag.to_le_bytes());
        match self {
            Value::U32(v) => {
                tag(out, U32)?;
                out.write_all(&v.to_le_bytes())
            }
            Value::F32(v) => {
                tag(out, F32)?;
                out.write_all(&v.to_le_bytes())
            }
            Value::Bool(v) => {
                tag(out, BOOL)?;
                out.write_all(&[u8::from(*v)])
            }
            Value::Text(v) => {
                tag(out, TEXT)?;
                write_text(v, out)
            }
            Value::I32s(all) => {
                write_array(I32, all.len(), out)?;
                all.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
            }
            Value::F32s(all) => {
                write_array(F32, all.len(), out)?;
                all.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
            }
            Value::Texts(all) => {
                write_array(TEXT, all.len(), out)?;
                all.iter().try_for_each(|v| write_text(v, out))
            }
        }
    }
}

fn write_array(of: u32, count: usize, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&ARRAY.to_le_bytes())?;
    out.write_all(&of.to_le_bytes())?;
    out.write_all(&(count as u64).to_le_bytes())
}

/// Length and bytes.
pub(super) fn write_text(text: &str, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}
