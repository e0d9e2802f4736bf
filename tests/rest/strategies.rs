//! Every strategy as a person meets it: started over the wizard's operations on the starter model, watched, kept with what it
//! measured, and asked.

use std::fs;

use serde_json::{Value, json};

use crate::{
    events::Events,
    support::{Server, small_run},
};

/// A strategy with its settings, what each of its steps tells besides the loss, what the model is judged by, and how its card
/// names it.
struct Way {
    settings: Value,
    of_steps: &'static [&'static str],
    of_model: &'static [&'static str],
    card: &'static str,
}

fn ways() -> [Way; 6] {
    let rollouts = json!({
        "strategy": "rlhf", "rollout_batch_size": 4, "response_length": 8, "max_steps": 2, "eval_steps": 2, "eval_answers": 4,
        "kl_limit": 8,
    });
    let with = |mut settings: Value, more: Value| {
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let pairs: &[&str] = &["rewards/accuracies", "rewards/chosen", "rewards/margins", "rewards/rejected"];
    let rewards: &[&str] = &["entropy", "kl", "response_length", "reward", "rollout_time_share"];
    [
        Way { settings: json!({"strategy": "sft"}), of_steps: &[], of_model: &["eval_loss"], card: "sft" },
        Way {
            settings: json!({"strategy": "qlora"}),
            of_steps: &[],
            of_model: &["eval_loss"],
            card: "qlora",
        },
        Way {
            settings: json!({"strategy": "qlora", "use_8bit": true}),
            of_steps: &[],
            of_model: &["eval_loss"],
            card: "qlora",
        },
        Way {
            settings: json!({"strategy": "dpo"}),
            of_steps: pairs,
            of_model: &["rewards/accuracies", "rewards/margins"],
            card: "dpo (loss sigmoid, beta 0.1)",
        },
        Way {
            settings: with(rollouts.clone(), json!({"rl_algorithm": "ppo", "reward_num_train_epochs": 1})),
            of_steps: &["value_loss"],
            of_model: &["eval_reward", "reward_model/accuracy"],
            card: "rlhf (ppo, reward model)",
        },
        Way {
            settings: with(
                rollouts,
                json!({"rl_algorithm": "grpo", "reward": "regex", "reward_pattern": "^The ", "num_generations": 2}),
            ),
            of_steps: rewards,
            of_model: &["eval_reward"],
            card: "rlhf (grpo, reward regex)",
        },
    ]
}

#[tokio::test]
async fn every_strategy_runs_from_the_wizards_operations_and_its_model_answers() {
    let server = Server::start();
    for Way { settings, of_steps, of_model, card } in ways() {
        let strategy = settings["strategy"].clone();
        let pairs = matches!(strategy.as_str(), Some("dpo" | "rlhf"));
        let dataset = if pairs { "sample:polite" } else { "sample:order-slips" };
        let mut request = small_run(dataset.as_ref(), settings.clone());
        request["eval_dataset"] = json!(dataset);
        request["max_seq_length"] = json!(128);
        request["per_device_train_batch_size"] = json!(8);
        request["gradient_accumulation_steps"] = json!(1);

        let looked =
            json!({"dataset": dataset, "task": "text-generation", "strategy": strategy, "errors": 0});
        let (code, report) = server.post("/api/datasets/check", looked).await;
        assert_eq!(code, 200, "{settings}: {report}");
        assert_eq!(report["form"] == "preference", pairs, "{settings}: {report}");
        let (code, estimate) = server.post("/api/finetune/estimate", request.clone()).await;
        assert_eq!(code, 200, "{settings}: {estimate}");

        let (code, started) = server.post("/api/finetune/start_training", request).await;
        assert_eq!(code, 200, "{settings}: {started}");
        let job = started["job_id"].as_str().unwrap();
        let stream = server.client.get(format!("{}/api/runs/{job}/events", server.url));
        let events = Events::open(stream).await.rest().await;
        let steps: Vec<&Value> =
            events.iter().map(|event| &event.data).filter(|event| event["event"] == "step").collect();
        assert!(!steps.is_empty(), "{settings}: {events:?}");
        for name in of_steps {
            assert!(
                steps.iter().all(|step| step["metrics"][name].is_number()),
                "{settings}, {name}: {steps:?}"
            );
        }
        let status = server.status_until(|status| status["status"] != "running").await;
        assert_eq!(status["status"], "completed", "{settings}: {status}");

        let (_, models) = server.get("/api/models/").await;
        let id = models[0]["model_id"].as_str().unwrap();
        let (_, model) = server.get(&format!("/api/models/{id}")).await;
        assert_eq!(model["config"]["strategy"], strategy, "{model}");
        for name in of_model {
            assert!(model["metrics"][name].is_number(), "{settings}, {name}: {model}");
        }
        let written = fs::read_to_string(server.home.join("models").join(id).join("README.md")).unwrap();
        assert!(written.contains(card), "{settings}: {written}");

        let question = json!({"model_id": id, "prompt": "Where is the book? The book is in the kitchen.", "max_length": 16});
        let (code, answer) = server.post("/api/playground/new", question).await;
        assert_eq!(code, 200, "{settings}: {answer}");
        assert!(answer["tokens_generated"].as_u64().unwrap() > 0, "{settings}: {answer}");
        let (code, deleted) = server.delete(&format!("/api/models/{id}")).await;
        assert_eq!(code, 200, "{deleted}");
    }
}
