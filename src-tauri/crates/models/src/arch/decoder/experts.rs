//! A mixture of experts (Shazeer et al. 2017, arXiv:1701.06538) as gpt-oss has it: frozen, without adapters.

use candle_core::{D, DType, Device, Result, Tensor};

use super::{Experts, model::Source};
use crate::ModelError;

/// The feed-forward part of a decoder layer.
pub(super) struct ExpertLayer {
    description: Experts,
    /// `[experts, hidden]` and `[experts]`.
    router: Affine,
    experts: Vec<Expert>,
}

/// A frozen product and what is added to it.
struct Affine {
    /// `[out, in]`.
    weight: Tensor,
    /// `[out]`.
    bias: Tensor,
}

impl Affine {
    /// In memory of its own.
    fn on(device: &Device, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let own = |part: &Tensor| part.force_contiguous()?.to_device(device);
        Ok(Affine { weight: own(weight)?, bias: own(bias)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = kernels::frozen_linear(x, &self.weight)?;
        y.broadcast_add(&kernels::converted(&self.bias, y.dtype())?)
    }
}

struct Expert {
    gate: Affine,
    up: Affine,
    down: Affine,
}

impl ExpertLayer {
    /// Takes the router and the experts of the decoder layer called `path`.
    pub fn load(
        source: &mut Source,
        description: Experts,
        path: &str,
        hidden: usize,
    ) -> std::result::Result<Self, ModelError> {
        let Experts { count, intermediate_size: middle, mxfp4, .. } = description;
        let fields = "num_local_experts, hidden_size and intermediate_size";
        let name = |part: &str| format!("{path}.mlp.{part}");
        let router = Affine {
            weight: source.take(&name("router.weight"), &[count, hidden], fields)?,
            bias: source.take(&name("router.bias"), &[count], fields)?,
        };
        // What is cut into experts is so on the processor: not every device copies parts of whatever dtype.
        let device = router.weight.device().clone();
        let both_bias = source.take(&name("experts.gate_up_proj_bias"), &[count, 2 * middle], fields)?;
        let down_bias = source.take(&name("experts.down_proj_bias"), &[count, hidden], fields)?;
        let (both_bias, down_bias) = (both_bias.to_device(&Device::Cpu)?, down_bias.to_device(&Device::Cpu)?);
        // Published as `[experts, in, out]`, in MXFP4 as `[experts, out, in]`.
        let mut weights = |part: &str, out: usize, inputs: usize| {
            if mxfp4 {
                return Ok(source
                    .take_mxfp4(&name(part), &[count, out, inputs], fields)?
                    .to_device(&Device::Cpu)?);
            }
            let stored = source.take(&name(part), &[count, inputs, out], fields)?;
            Ok::<_, ModelError>(stored.to_device(&Device::Cpu)?.transpose(1, 2)?)
        };
        let both = weights("experts.gate_up_proj", 2 * middle, hidden)?;
        let down = weights("experts.down_proj", hidden, middle)?;
        let expert = |index: usize| -> Result<Expert> {
            let (weight, bias) = (both.get(index)?, both_bias.get(index)?);
            // Rows of gate and up take turns.
            let half = |which: usize| -> Result<Affine> {
                let weight = weight.contiguous()?.reshape((middle, 2, hidden))?.narrow(1, which, 1)?;
                let bias = bias.reshape((middle, 2))?.narrow(1, which, 1)?;
                Affine::on(&device, &weight.squeeze(1)?, &bias.squeeze(1)?)
            };
            Ok(Expert {
                gate: half(0)?,
                up: half(1)?,
                down: Affine::on(&device, &down.get(index)?, &down_bias.get(index)?)?,
            })
        };
        let experts = (0..count).map(expert).collect::<Result<Vec<_>>>()?;
        Ok(ExpertLayer { description, router, experts })
    }

    /// `[tokens, hidden]` → the same: the sum of the chosen experts' outputs by the softmax of their scores.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, _) = x.dims2()?;
        let per_token = self.description.per_token;
        let scores = self.router.forward(x)?.to_dtype(DType::F32)?;
        let chosen = best(&scores, per_token)?;
        let places = Tensor::from_vec(chosen.clone(), (tokens, per_token), x.device())?;
        let scores = scores.gather(&places, D::Minus1)?;
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let shares = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?.flatten_all()?;
        let mut sum = x.zeros_like()?;
        for (index, expert) in self.experts.iter().enumerate() {
            let hits = chosen.iter().zip(0u32..).filter(|(expert, _)| **expert == index as u32);
            let hits: Vec<u32> = hits.map(|(_, place)| place).collect();
            if hits.is_empty() {
                continue;
            }
            let rows: Vec<u32> = hits.iter().map(|place| place / per_token as u32).collect();
            let (count, rows) = (rows.len(), Tensor::new(rows, x.device())?);
            let share = shares.index_select(&Tensor::new(hits, x.device())?, 0)?.reshape((count, 1))?;
            let x = x.index_select(&rows, 0)?;
            let y =
                kernels::gated(&expert.gate.forward(&x)?, &expert.up.forward(&x)?, self.description.gate)?;
            let y = expert.down.forward(&y)?.broadcast_mul(&share.to_dtype(x.dtype())?)?;
            sum = sum.index_add(&rows, &y, 0)?;
        }
        Ok(sum)
    }
}

/// The columns of the `count` highest values of each row, row after row.
fn best(scores: &Tensor, count: usize) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for row in scores.detach().to_vec2::<f32>()? {
        let mut columns: Vec<u32> = (0..row.len() as u32).collect();
        columns.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        all.extend(columns.into_iter().take(count));
    }
    Ok(all)
}
