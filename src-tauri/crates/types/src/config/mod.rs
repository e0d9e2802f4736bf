//! The settings of a run. One row of the table below is one setting: its name, type, range, default and help. The
//! check of a request, the flags of the command line, the form of the app and the reference page all come from it.

mod check;
mod fallback;
mod quantisation;
mod support;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use check::pattern;
pub use quantisation::{QuantCodes, Quantisation};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{
    BnbDtype, EvalMetric, LossType, LrScheduler, Optim, Profile, Provider, QuantType, Reward, RlAlgorithm,
    Strategy, Task,
    field::{
        Ends::{self, Both, Lower, Upper},
        Fallback::{Bool as B, ByStrategy, Float as F, Found, Int as I, Required, Text as T},
        Field, Kind, MANY,
    },
    fields,
};

/// The table of settings, in the order people meet them.
pub const FIELDS: &[Field] = TrainingConfig::TABLE;

const DPO: &[Strategy] = &[Strategy::Dpo];
const RLHF: &[Strategy] = &[Strategy::Rlhf];

const fn choice(values: &'static [&'static str]) -> Kind {
    Kind::Choice { values }
}
const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}
const fn float(min: f64, max: f64, ends: Ends) -> Kind {
    Kind::Float { min, max, ends }
}

fields! {
/// Every setting of a run, checked. Made by [`TrainingConfig::from_json`].
pub struct TrainingConfig {
    task: Task, choice(Task::NAMES), Required, "What the model is to do.";
    model_name: String, Kind::Text, Required, "The base model: a Hub repository, a local folder, or modelforge/starter.";
    dataset: String, Kind::Text, Required, "The dataset file, or sample:<name> for one that ships with the app.";
    strategy: Strategy, choice(Strategy::NAMES), T("sft"), "How the weights are tuned.";
    provider: Option<Provider>, choice(Provider::NAMES), Found("unsloth where the architecture has fused kernels, else huggingface"), "Which implementation computes: unsloth is the fused kernels, huggingface the plain reference.";
    compute_specs: Option<Profile>, choice(Profile::NAMES), Found("the profile of this machine"), "The class of machine; caps max_seq_length where that is left to be found.";
    name: Option<String>, Kind::Text, Found("the base model's and the dataset's names"), "The name the finished model gets.";
    num_train_epochs: u32, int(1, MANY), I(1), "How often the whole dataset is gone through.";
    max_steps: i64, int(-1, MANY), I(-1), "Optimizer steps of the run; overrides the epochs. -1 leaves it to them.";
    per_device_train_batch_size: u32, int(1, MANY), I(1), "Rows computed at once in training.";
    per_device_eval_batch_size: u32, int(1, MANY), I(1), "Rows computed at once in evaluation.";
    gradient_accumulation_steps: u32, int(1, MANY), I(4), "Batches whose gradients are added up before an optimizer step.";
    max_seq_length: Option<u32>, int(8, MANY), Found("the longest row, at most what the model and the profile allow"), "Longer rows are cut to this many tokens.";
    packing: bool, Kind::Bool, B(false), "Fills every sequence up to max_seq_length with several rows that do not see each other.";
    group_by_length: bool, Kind::Bool, B(true), "Puts rows of similar length into the same batch.";
    learning_rate: f64, float(0.0, 1.0, Upper), ByStrategy("2e-4; 5e-6 for dpo, 1.41e-5 for rlhf"), "The highest learning rate of the schedule.";
    lr_scheduler_type: LrScheduler, choice(LrScheduler::NAMES), T("cosine"), "The shape of the learning rate after the warm-up.";
    warmup_ratio: f64, float(0.0, 1.0, Both), F(0.03), "The part of all steps over which the learning rate rises from zero.";
    optim: Optim, choice(Optim::NAMES), T("paged_adamw_32bit"), "The optimizer.";
    weight_decay: f64, float(0.0, f64::MAX, Both), F(0.001), "Decoupled weight decay.";
    max_grad_norm: f64, float(0.0, f64::MAX, Both), F(0.3), "Gradients are scaled down to this norm; 0 leaves them.";
    lora_r: u32, int(1, 256), I(16), "Rank of the adapter.";
    lora_alpha: u32, int(1, MANY), I(32), "The adapter's output is scaled by lora_alpha / lora_r.";
    lora_dropout: f64, float(0.0, 1.0, Lower), F(0.1), "Dropout on the adapter's input while training.";
    target_modules: Option<Vec<String>>, Kind::TextList, Found("every linear layer of the decoder"), "Names of the layers that get an adapter, such as q_proj.";
    use_4bit: bool, Kind::Bool, ByStrategy("true for qlora unless use_8bit is, else false"), "Keeps the weights of the base's linear layers in 4 bits, with a scale for each 64; embeddings, norms and head stay as they are.";
    use_8bit: bool, Kind::Bool, B(false), "Keeps the weights of the base's linear layers in 8 bits, with a scale for each row.";
    bnb_4bit_compute_dtype: BnbDtype, choice(BnbDtype::NAMES), T("float16"), "The dtype 4-bit weights are multiplied in; float16 stands for the run's own precision, bfloat16 with bf16, else float32.";
    bnb_4bit_quant_type: QuantType, choice(QuantType::NAMES), T("nf4"), "The code book of 4-bit weights.";
    use_nested_quant: bool, Kind::Bool, B(false), "Quantises the scales of 4-bit weights too.";
    fp16: bool, Kind::Bool, B(false), "Keeps the base weights and computes in 16-bit IEEE floats, with a loss scale that adapts; on GPUs only.";
    bf16: bool, Kind::Bool, B(false), "Keeps the base weights and computes in bfloat16, or as fp16 does on a GPU without it; adapter and optimizer stay in 32 bits.";
    gradient_checkpointing: bool, Kind::Bool, B(true), "Computes each layer twice to hold the activations of one layer only.";
    #[serde(default)]
    activation_offloading: bool, Kind::Bool, B(false), "With gradient_checkpointing on a GPU: keeps the layers' inputs in the machine's memory until they are needed again.";
    skip_bad_rows: bool, Kind::Bool, B(false), "Trains on the good rows of a dataset that has bad ones, instead of refusing it.";
    eval_dataset: Option<String>, Kind::Text, Found("rows of the dataset, as eval_split says"), "A second dataset file to measure on, or sample:<name> for a sample's held-out rows; then eval_split takes no rows.";
    eval_split: f64, float(0.0, 1.0, Lower), F(0.2), "The part of the rows kept aside to measure on.";
    eval_steps: u32, int(1, MANY), I(100), "Measures after every so many steps, and at the end.";
    #[serde(default)]
    eval_answers: u32, int(0, MANY), I(50), "Evaluation rows that the model answers at each evaluation and before the first step, scored by ROUGE (summarization) or by exact match and F1 (question answering); 0 for none.";
    #[serde(default)]
    metric_for_best_model: Option<EvalMetric>, choice(EvalMetric::NAMES), Found("eval_loss"), "What the best evaluation is told by, for load_best_model_at_end and early_stopping_patience.";
    #[serde(default)]
    load_best_model_at_end: bool, Kind::Bool, B(false), "Makes the model of the best evaluation instead of the last step; its checkpoint is kept until then.";
    #[serde(default)]
    early_stopping_patience: u32, int(0, MANY), I(0), "Finishes the run after so many evaluations in a row that are no better than the best before; 0 never does.";
    save_steps: u32, int(1, MANY), I(100), "Writes a checkpoint after every so many steps.";
    #[serde(default = "fallback::save_minutes")]
    save_minutes: f64, float(0.0, f64::MAX, Both), F(10.0), "Writes one after so many minutes too, where save_steps has asked for none in that time; 0 leaves it to save_steps.";
    #[serde(default = "fallback::save_total_limit")]
    save_total_limit: u32, int(1, MANY), I(2), "How many of the newest checkpoints are kept; that of the best evaluation is kept besides where load_best_model_at_end needs it.";
    #[serde(default = "fallback::loss_type")]
    loss_type: LossType, choice(LossType::NAMES), T("sigmoid"), "What is made of the likelihoods of the chosen and the rejected answer: sigmoid is DPO's own loss, ipo holds the margin at a target, orpo learns the chosen answer too and needs no reference, kto looks at each answer by itself.", DPO;
    #[serde(default = "fallback::beta")]
    beta: f64, float(0.0, f64::MAX, Upper), F(0.1), "How closely the model stays with the base: the larger, the closer. With orpo the weight of the odds ratio.", DPO;
    #[serde(default)]
    label_smoothing: f64, float(0.0, 0.5, Lower), F(0.0), "The part of the pairs that is taken to be labelled the wrong way round; loss_type sigmoid only.", DPO;
    #[serde(default = "fallback::rl_algorithm")]
    rl_algorithm: RlAlgorithm, choice(RlAlgorithm::NAMES), T("ppo"), "How the policy learns from rewards: ppo with a value head, grpo by comparing several answers to each prompt.", RLHF;
    #[serde(default = "fallback::reward")]
    reward: Reward, choice(Reward::NAMES), T("model"), "What an answer is rewarded by: a reward model trained on the preference pairs first, a regular expression that it matches, or the row's own answer.", RLHF;
    #[serde(default)]
    reward_model: Option<String>, Kind::Text, Found("one is trained on the preference pairs"), "A trained reward model: its name or folder.", RLHF;
    #[serde(default)]
    reward_pattern: Option<String>, Kind::Text, Found("none"), "The regular expression that an answer has to match, for reward regex.", RLHF;
    #[serde(default = "fallback::reward_learning_rate")]
    reward_learning_rate: f64, float(0.0, 1.0, Upper), F(1e-4), "The highest learning rate of a reward model that is trained first.", RLHF;
    #[serde(default = "fallback::reward_num_train_epochs")]
    reward_num_train_epochs: u32, int(1, MANY), I(1), "How often a reward model that is trained first goes through the pairs.", RLHF;
    #[serde(default = "fallback::rollout_batch_size")]
    rollout_batch_size: u32, int(1, MANY), I(8), "Prompts that are answered before the policy learns from the answers.", RLHF;
    #[serde(default = "fallback::response_length")]
    response_length: u32, int(1, MANY), I(53), "The longest answer to a prompt, in tokens.", RLHF;
    #[serde(default = "fallback::temperature")]
    temperature: f64, float(0.0, f64::MAX, Upper), F(0.7), "Answers are drawn at this temperature.", RLHF;
    #[serde(default = "fallback::num_generations")]
    num_generations: u32, int(2, MANY), I(8), "Answers to each prompt that are compared with each other; grpo only.", RLHF;
    #[serde(default = "fallback::num_ppo_epochs")]
    num_ppo_epochs: u32, int(1, MANY), I(4), "How often the answers of a rollout are gone through.", RLHF;
    #[serde(default = "fallback::num_mini_batches")]
    num_mini_batches: u32, int(1, MANY), I(1), "Parts of a rollout with an optimizer step each.", RLHF;
    #[serde(default = "fallback::kl_coef")]
    kl_coef: f64, float(0.0, f64::MAX, Both), F(0.05), "Weight of the divergence from the base model.", RLHF;
    #[serde(default)]
    kl_target: Option<f64>, float(0.0, f64::MAX, Upper), Found("none: kl_coef stays as it is"), "The divergence per answer that kl_coef is adapted to keep.", RLHF;
    #[serde(default = "fallback::kl_limit")]
    kl_limit: f64, float(0.0, f64::MAX, Upper), F(2.0), "Stops the run where answers are further from the base model than this, in nats per token; the last good checkpoint is kept.", RLHF;
    #[serde(default = "fallback::cliprange")]
    cliprange: f64, float(0.0, f64::MAX, Upper), F(0.2), "How far the ratio of new to old likelihoods counts beyond 1.", RLHF;
    #[serde(default = "fallback::cliprange")]
    cliprange_value: f64, float(0.0, f64::MAX, Upper), F(0.2), "How far a new value counts beyond the old one; ppo only.", RLHF;
    #[serde(default = "fallback::vf_coef")]
    vf_coef: f64, float(0.0, f64::MAX, Both), F(0.1), "Weight of the value loss; ppo only.", RLHF;
    #[serde(default = "fallback::gamma")]
    gamma: f64, float(0.0, 1.0, Both), F(1.0), "Discount of later rewards; ppo only.", RLHF;
    #[serde(default = "fallback::lam")]
    lam: f64, float(0.0, 1.0, Both), F(0.95), "Lambda of generalised advantage estimation; ppo only.", RLHF;
    seed: u64, int(0, i64::MAX), I(42), "Seed of the split, the order of rows, the adapter's start and dropout.";
}
}

impl TrainingConfig {
    /// The row of the table with this name.
    pub fn field(name: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|field| field.name == name)
    }
}

impl JsonSchema for TrainingConfig {
    fn schema_name() -> Cow<'static, str> {
        "TrainingConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Field::value_schema(FIELDS, generator)
    }
}
