//! What settings are in the files of runs from before there were such settings: their defaults.

use crate::{LossType, Reward, RlAlgorithm};

pub(super) fn save_minutes() -> f64 {
    10.0
}

pub(super) fn save_total_limit() -> u32 {
    2
}

pub(super) fn loss_type() -> LossType {
    LossType::Sigmoid
}

pub(super) fn beta() -> f64 {
    0.1
}

pub(super) fn rl_algorithm() -> RlAlgorithm {
    RlAlgorithm::Ppo
}

pub(super) fn reward() -> Reward {
    Reward::Model
}

pub(super) fn rollout_batch_size() -> u32 {
    8
}

pub(super) fn response_length() -> u32 {
    53
}

pub(super) fn temperature() -> f64 {
    0.7
}

pub(super) fn num_generations() -> u32 {
    8
}

pub(super) fn num_ppo_epochs() -> u32 {
    4
}

pub(super) fn num_mini_batches() -> u32 {
    1
}

pub(super) fn kl_coef() -> f64 {
    0.05
}

pub(super) fn cliprange() -> f64 {
    0.2
}

pub(super) fn vf_coef() -> f64 {
    0.1
}

pub(super) fn gamma() -> f64 {
    1.0
}

pub(super) fn lam() -> f64 {
    0.95
}

pub(super) fn reward_learning_rate() -> f64 {
    1e-4
}

pub(super) fn reward_num_train_epochs() -> u32 {
    1
}

pub(super) fn kl_limit() -> f64 {
    2.0
}
