"""The tiny models of the families beside Llama and Mistral, one at least of each, as `shapes.Shape` takes them.

Dimensions are as small as they can be with every part of a family at work: windows and original contexts are shorter than the
sequences, some layers slide and some do not, caps are low enough to bend what they cap.
"""

import torch

# Widths of most of them.
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LOCAL_GLOBAL = ["sliding_attention", "full_attention"]
# An image encoder with the fewest parameters there can be.
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
}
PIXTRAL = {
    "model_type": "pixtral",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "head_dim": 8,
    "image_size": 28,
    "patch_size": 14,
}
TEXT = {
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": None,
}

FAMILIES = [
    {
        "name": "qwen2-window",
        "seed": 21,
        "family": "Qwen2ForCausalLM",
        "config": SMALL
        | {
            "use_sliding_window": True,
            "sliding_window": 8,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "published_rope": {"rope_theta": 1000000.0},
        "unpublished": ["layer_types"],
    },
    {
        "name": "qwen3-sharded-bf16",
        "seed": 22,
        "family": "Qwen3ForCausalLM",
        "config": SMALL
        | {
            "head_dim": 12,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "dtype": torch.bfloat16,
        "shard_size": "40KB",
        "published_rope": {"rope_theta": 1000000, "rope_scaling": None},
        "unpublished": ["layer_types"],
    },
    {
        "name": "qwen2-yarn",
        "seed": 23,
        "family": "Qwen2ForCausalLM",
        "config": SMALL
        | {
            "use_sliding_window": False,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1000000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
        "dtype": torch.float16,
        "published_rope": {
            "rope_theta": 1000000.0,
            "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn"},
        },
        "unpublished": ["layer_types"],
    },
    {
        "name": "smollm3-f16",
        "seed": 24,
        "family": "SmolLM3ForCausalLM",
        "config": SMALL
        | {
            "num_hidden_layers": 3,
            "no_rope_layer_interval": 2,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0},
        },
        "dtype": torch.float16,
        "published_rope": {"rope_theta": 5000000.0, "rope_scaling": None},
        "published": {"pretraining_tp": 2},
    },
    {
        "name": "mistral3-text-part",
        "seed": 25,
        "family": "Mistral3ForConditionalGeneration",
        "config": {
            "text_config": TEXT
            | SMALL
            | {
                "model_type": "mistral",
                "head_dim": 12,
                "sliding_window": None,
                "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1000000000.0},
            },
            "vision_config": PIXTRAL,
            "tie_word_embeddings": False,
        },
        "dtype": torch.bfloat16,
        "common": False,
        "published_rope": {"rope_theta": 1000000000.0},
    },
    {
        "name": "gemma2",
        "seed": 26,
        "family": "Gemma2ForCausalLM",
        "config": SMALL
        | {
            "head_dim": 12,
            "query_pre_attn_scalar": 24,
            "sliding_window": 8,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 4.0,
            "rope_parameters": PLAIN_ROPE,
        },
        "published_rope": {"rope_theta": 10000.0},
        "unpublished": ["layer_types", "tie_word_embeddings"],
        "published": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"},
        "embeddings": 0.2,
    },
    {
        "name": "gemma3-bf16",
        "seed": 27,
        "family": "Gemma3ForCausalLM",
        "config": SMALL
        | {
            "num_hidden_layers": 3,
            "head_dim": 12,
            "query_pre_attn_scalar": 24,
            "sliding_window": 8,
            "sliding_window_pattern": 2,
        },
        "dtype": torch.bfloat16,
        "published_rope": {"rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None},
        "unpublished": ["layer_types", "tie_word_embeddings"],
        "published": {"sliding_window_pattern": 2},
        "embeddings": 0.2,
    },
    {
        "name": "gemma3-text-part",
        "seed": 28,
        "family": "Gemma3ForConditionalGeneration",
        "config": {
            "text_config": TEXT
            | SMALL
            | {
                "model_type": "gemma3_text",
                "head_dim": 12,
                "query_pre_attn_scalar": 12,
                "sliding_window": 8,
                "layer_types": LOCAL_GLOBAL,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                    "sliding_attention": PLAIN_ROPE,
                },
            },
            "vision_config": SIGLIP,
            "mm_tokens_per_image": 1,
            "image_token_index": 319,
            "boi_token_index": 318,
            "eoi_token_index": 317,
        },
        "common": False,
        "embeddings": 0.2,
    },
    {
        "name": "phi3-longrope",
        "seed": 29,
        "family": "Phi3ForCausalLM",
        "config": SMALL
        | {
            "hidden_size": 48,
            "original_max_position_embeddings": 16,
            "tie_word_embeddings": True,
            "sliding_window": None,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "short_factor": [1.0, 1.1, 1.3],
                "long_factor": [1.0, 2.5, 7.0],
            },
        },
        "published_rope": {
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.5, 7.0]},
        },
        "targets": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    },
    {
        "name": "gptj-f16",
        "seed": 30,
        "family": "GPTJForCausalLM",
        "config": {
            "vocab_size": 320,
            "n_positions": 512,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "rotary_dim": 8,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        "dtype": torch.float16,
        "common": False,
        "targets": ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"],
    },
    {
        "name": "gpt-oss-bf16",
        "seed": 31,
        "family": "GptOssForCausalLM",
        "config": SMALL
        | {
            "intermediate_size": 32,
            "head_dim": 12,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 8,
            "swiglu_limit": 1.5,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 16,
            },
        },
        "dtype": torch.bfloat16,
        "published_rope": {
            "rope_theta": 150000,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 16,
            },
        },
        "targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
    },
]
