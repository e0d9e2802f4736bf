//! The operations on NVIDIA cards: what the fused operations compute on the CPU, with the library's products and kernels of our own.
//!
//! All work of a process goes to one stream of one card, in the order in which it is asked for, and memory is freed in that order
//! too: so an address may be handed to a kernel and its memory given back at once. Nothing here sums in an order that changes from
//! run to run.

mod attention;
mod beside;
mod cached;
mod card;
mod codes;
mod continued;
mod faults;
mod group;
mod head;
mod layer;
mod linear;
mod moments;
mod offload;
mod optimizer;
mod plan;
mod precision;
mod rows;
mod sample;
mod update;
mod weight;

pub(crate) use self::{
    beside::layer_beside,
    cached::{CardCache, forward_cached, product},
    card::{capability, numbers, numbers_of},
    head::HeadOnCard,
    layer::{SavedOnCard, backward, forward},
    linear::{frozen_linear, frozen_linear_backward, widened},
    offload::{Away, Leaving},
    rows::{dropout, embedding, rms_norm, rms_norm_backward, seed},
    weight::OnCard,
};
pub use self::{
    beside::{AdapterGradient, Beside},
    card::{Memory, card, memory},
    faults::card_fault,
    moments::{CodedMoments, Moments},
    optimizer::CardGradients,
    sample::{Choosing, Chosen, choose_on_card},
    update::{adamw_8bit_on_card, adamw_on_card, sgd_on_card},
};
