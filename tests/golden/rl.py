"""The arithmetic of trl's PPO, GRPO and reward trainers on recorded rollouts, with torch's gradients.

PPO left trl with version 1; its formulas are those of trl 0.24's `ppo_trainer.py` and `core.py`, written down here over answers that
all have the same length, so that its masks hide nothing, and then over answers of several lengths. GRPO's and the reward trainer's
are those of trl 1.16.
"""

import json

import torch

KL_COEF, GAMMA, LAM = 0.05, 0.98, 0.9
CLIP, CLIP_VALUE, BETA = 0.2, 0.2, 0.04


def masked_mean(values, mask):
    return (values * mask).sum() / mask.sum()


def masked_whiten(values, mask):
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    variance = variance * mask.sum() / (mask.sum() - 1)
    return (values - mean) * torch.rsqrt(variance + 1e-8)


def rollouts(generator, lengths, width):
    """Rows of log-probabilities, values and a score each, and which of their places are tokens."""
    def draw(scale):
        return torch.randn(len(lengths), width, generator=generator, dtype=torch.float64) * scale

    mask = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    old = -draw(1.0).abs() - 0.1
    return {
        "old": old, "reference": old + draw(0.3), "new": (old + draw(0.25)).requires_grad_(),
        "values": draw(0.6), "new_values": (draw(0.6)).requires_grad_(),
        "scores": torch.randn(len(lengths), generator=generator, dtype=torch.float64), "mask": mask,
    }


def ppo(data, lengths):
    """One pass of `PPOTrainer.train` over a rollout."""
    mask = data["mask"]
    kl = data["old"] - data["reference"]
    rewards = -KL_COEF * kl * mask
    rewards[torch.arange(len(lengths)), torch.tensor(lengths) - 1] += data["scores"]
    values = data["values"] * mask
    advantages, last = torch.zeros_like(values), 0.0
    width = values.shape[1]
    for t in reversed(range(width)):
        following = values[:, t + 1] if t < width - 1 else 0.0
        delta = rewards[:, t] + GAMMA * following - values[:, t]
        last = delta + GAMMA * LAM * last
        advantages[:, t] = last
    returns = advantages + values
    whitened = masked_whiten(advantages, mask)

    ratio = torch.exp(data["new"] - data["old"])
    free, bounded = -whitened * ratio, -whitened * torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
    policy = masked_mean(torch.max(free, bounded), mask)
    clipped = torch.clamp(data["new_values"], values - CLIP_VALUE, values + CLIP_VALUE)
    free_values, bounded_values = (data["new_values"] - returns) ** 2, (clipped - returns) ** 2
    value = 0.5 * masked_mean(torch.max(free_values, bounded_values), mask)
    by_policy, = torch.autograd.grad(policy, data["new"], retain_graph=True)
    by_value, = torch.autograd.grad(value, data["new_values"])
    ratio3 = data["reference"] - data["old"]
    return {
        "rewards": rewards, "advantages": advantages, "returns": returns, "whitened": whitened,
        "k3": (ratio3.exp() - 1) - ratio3,
        "policy_loss": policy.item(), "value_loss": value.item(),
        "policy_gradient": by_policy, "value_gradient": by_value,
        "policy_clip_fraction": masked_mean((bounded > free).double(), mask).item(),
        "value_clip_fraction": masked_mean((bounded_values > free_values).double(), mask).item(),
    }


def grpo(data, group):
    """`GRPOTrainer`'s advantages and its loss of type dapo, over the tokens of one batch."""
    grouped = data["scores"].view(-1, group)
    mean, deviation = grouped.mean(1).repeat_interleave(group), grouped.std(1).repeat_interleave(group)
    advantages = (data["scores"] - mean) / (deviation + 1e-4)
    mask = data["mask"]
    ratio = torch.exp(data["new"] - data["old"])
    per_token = -torch.min(ratio * advantages[:, None], torch.clamp(ratio, 1 - CLIP, 1 + CLIP) * advantages[:, None])
    difference = data["reference"] - data["new"]
    per_token = per_token + BETA * (torch.exp(difference) - difference - 1)
    loss = (per_token * mask).sum() / mask.sum()
    gradient, = torch.autograd.grad(loss, data["new"])
    return {"advantages": advantages, "loss": loss.item(), "gradient": gradient}


def controller():
    """trl's `AdaptiveKLController` with its horizon of 10000, over some divergences."""
    value, told = 0.05, []
    for kl, answers in [(3.0, 64), (6.1, 64), (20.0, 128), (0.0, 8), (6.0, 512)]:
        error = max(-0.2, min(0.2, kl / 6.0 - 1))
        value *= 1 + error * answers / 10000
        told.append({"kl": kl, "answers": answers, "coefficient": value})
    return told


def rewards(generator):
    """`RewardTrainer`'s loss of pairs of rewards, far apart ones too."""
    chosen = torch.cat([torch.randn(20, generator=generator, dtype=torch.float64) * 3, torch.tensor([80.0, -80.0, 0.0])]).requires_grad_()
    rejected = torch.cat([torch.randn(20, generator=generator, dtype=torch.float64) * 3, torch.tensor([-80.0, 80.0, 0.0])])
    loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
    gradient, = torch.autograd.grad(loss, chosen)
    return {"chosen": chosen, "rejected": rejected, "loss": loss.item(), "gradient": gradient,
            "accuracy": (chosen > rejected).double().mean().item()}


def plain(value, mask=None):
    """Tensors as lists; rows without what the mask hides."""
    if isinstance(value, dict):
        return {key: plain(part, mask) for key, part in value.items() if key != "mask"}
    if isinstance(value, torch.Tensor) and mask is not None and value.shape == mask.shape:
        return [row[keep].tolist() for row, keep in zip(value.detach(), mask)]
    return value.detach().tolist() if isinstance(value, torch.Tensor) else value


def make(path):
    generator = torch.Generator().manual_seed(7)
    cases = []
    for lengths in ([6] * 8, [1, 9, 4, 7, 2, 9, 3, 5]):
        data = rollouts(generator, lengths, max(lengths))
        cases.append(plain({"rollout": data, "ppo": ppo(data, lengths), "grpo": grpo(data, 4)}, data["mask"]))
    path.write_text(json.dumps({
        "settings": {"kl_coef": KL_COEF, "gamma": GAMMA, "lam": LAM, "cliprange": CLIP, "cliprange_value": CLIP_VALUE, "beta": BETA, "group": 4},
        "cases": cases, "controller": controller(), "preference": plain(rewards(generator)),
    }, indent=1) + "\n")
