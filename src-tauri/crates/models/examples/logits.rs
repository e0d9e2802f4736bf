//! Prints the logits of a model under an adapter as JSON, `[tokens][vocab]`, to compare with those of other programs.

use std::{env, path::Path};

use candle_core::{Device, Tensor};
use models::{LoadOptions, Pass, Sequences, forward};
use types::Provider;

#[allow(clippy::print_stdout, reason = "what the program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, adapter, ids @ ..] = arguments.as_slice() else {
        return Err("usage: logits <model folder> <adapter folder> <token id>…".into());
    };
    let ids = ids.iter().map(|id| id.parse()).collect::<Result<Vec<u32>, _>>()?;
    let mut model = models::load(
        Path::new(model),
        &LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu },
    )?
    .causal()?;
    model.load_adapter(Path::new(adapter))?;
    let sequences = Sequences::new(vec![ids.len()]);
    let hidden = forward(model.as_ref(), &Tensor::new(ids, &Device::Cpu)?, &sequences, Pass::EVAL)?;
    println!("{}", serde_json::to_string(&model.logits(&hidden)?.to_vec2::<f32>()?)?);
    Ok(())
}
