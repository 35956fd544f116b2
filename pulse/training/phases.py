"""One step of each phase: the variational autoencoder, then the adversarial training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.training.augment import augment
from pulse.training.data import Pictures
from pulse.training.discriminator import discriminator_loss, generator_loss
from pulse.training.features import unit_normalized
from pulse.training.learner import Learner
from pulse.training.networks import mapped
from pulse.training.randomness import draw_noise
from pulse.training.settings import LossWeights
from pulse.training.whitening import aggregate_moments, whiten

Losses = dict[str, float]
KL_RATE = 0.05  # how fast the weight of the divergence follows, a step
KL_WEIGHT_RANGE = (1e-6, 1.0)
POSTERIOR_BATCH = 64


def step(learner: Learner, pictures: Pictures) -> Losses:
    """Take one step of the phase that the training is in.

    Raises:
        FloatingPointError: if a loss is no number any more.
    """
    is_vae = learner.progress.phase == "vae"
    losses = (autoencode if is_vae else compete)(learner, pictures)
    values = {name: float(value.detach()) for name, value in losses.items()}
    if not all(torch.tensor(list(values.values())).isfinite()):
        raise FloatingPointError(f"the losses are {values} after {learner.progress.images} images")
    learner.progress.images += learner.settings.batch_size
    learner.average(learner.settings.batch_size)
    return values


def autoencode(learner: Learner, pictures: Pictures) -> dict[str, Tensor]:
    """A step of the variational autoencoder (Kingma & Welling 2014) whose decoder is the generator.

    Its divergence is held at a target by its weight, so that the latents neither say everything of
    a picture nor nothing.
    """
    settings, progress = learner.settings, learner.progress
    B, rng = settings.batch_size, learner.stream("autoencode")
    x = pictures.draw(B, rng, mirror=settings.mirror).to(learner.device)
    noise_maps = draw_noise(learner.G.noise_sizes, B, rng, learner.device)
    eps = torch.randn(B, learner.G.z_dim, generator=rng).to(learner.device)
    with learner.autocast():
        wanted = learner.frozen_look(x)
        mean, log_variance = learner.encoder(x)
        z = learner.encoder.latents(mean, log_variance, eps)
        drawn = learner.draw(mapped(learner.G.mapping, z), noise_maps)
        losses = reconstruction_losses(drawn, x, learner.look(drawn), wanted, settings.weights)
    kl = divergence(mean, log_variance)
    outside = outside_loss(drawn)
    loss = losses["reconstruction"] + progress.kl_weight * kl + settings.weights.outside * outside
    descend(loss, learner.optimizer)
    excess = min(1.0, float(kl.detach()) / settings.kl_nats - 1)
    low, high = KL_WEIGHT_RANGE
    progress.kl_weight = min(high, max(low, progress.kl_weight * (1 + KL_RATE * excess)))
    return losses | {"kl": kl, "outside": outside}


def compete(learner: Learner, pictures: Pictures) -> dict[str, Tensor]:
    """A step of the discriminator and one of the generator, on the same drawn pictures.

    One batch goes through the generator: samples of the prior, which are judged, and codes of
    pictures of the data, which are compared with them.
    """
    settings, progress = learner.settings, learner.progress
    B, rng = settings.batch_size, learner.stream("compete")
    total = B + settings.num_reconstructed
    x = pictures.draw(total, rng, mirror=settings.mirror).to(learner.device)
    noise_maps = draw_noise(learner.G.noise_sizes, total, rng, learner.device)
    z = torch.randn(total, learner.G.z_dim, generator=rng).to(learner.device)
    with learner.autocast():
        known = learner.frozen_look(torch.cat([augment(x[:B], rng), x[B:]]))
        with torch.no_grad():
            mean, log_variance = learner.encoder(x[B:])
            codes = learner.encoder.latents(mean, log_variance, z[B:])
        # through the generator's own mapping, so that a sample can be what a code is
        drawn = learner.draw(learner.G.mapping(torch.cat([z[:B], codes])), noise_maps)
        seen = learner.look(torch.cat([augment(drawn[:B], rng), drawn[B:]]))
        discriminator = learner.discriminator
        fake = discriminator.mixing([taps[:B] for taps in seen])
        with torch.no_grad():
            real = discriminator.mixing([taps[:B] for taps in known])
        d_loss = judge(learner, real, fake)
        g_loss = generator_loss(discriminator(fake))
        losses = reconstruction_losses(
            drawn[B:], x[B:], [taps[B:] for taps in seen], [taps[B:] for taps in known],
            settings.weights,
        )  # fmt: skip
    outside = outside_loss(drawn)
    weights = settings.weights
    loss = weights.adversarial * progress.adversarial * g_loss
    loss = loss + weights.reconstruction * losses["reconstruction"] + weights.outside * outside
    descend(loss, learner.optimizer)
    return losses | {"discriminator": d_loss, "generator": g_loss, "outside": outside}


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of an optimizer down a loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def judge(learner: Learner, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Train the discriminator's heads on mixed features; leaves them frozen for the generator."""
    heads = learner.discriminator.heads.requires_grad_()
    B = len(real[0])
    both = [torch.cat([r, f.detach()]) for r, f in zip(real, fake, strict=True)]
    judgements = learner.discriminator(both)
    loss = discriminator_loss([j[:B] for j in judgements], [j[B:] for j in judgements])
    descend(loss, learner.discriminator_optimizer)
    heads.requires_grad_(False)
    return loss


def reconstruction_losses(
    drawn: Tensor, x: Tensor, seen: Sequence[Tensor], wanted: Sequence[Tensor], weights: LossWeights
) -> dict[str, Tensor]:
    """How far drawn pictures (B, 3, R, R) are from x, in pixels and features, means over pictures.

    Args:
        drawn: in about [-1, 1].
        x: likewise.
        seen: features of drawn, at four scales.
        wanted: features of x.
        weights: of the two.
    """
    each = reconstruction_of_each(drawn, x, seen, wanted, weights)
    return {"reconstruction": each.mean(), "l1": (drawn - x).abs().mean()}


def reconstruction_of_each(
    drawn: Tensor, x: Tensor, seen: Sequence[Tensor], wanted: Sequence[Tensor], weights: LossWeights
) -> Tensor:
    """The loss of each picture, (B,); arguments as of `reconstruction_losses`."""
    loss = weights.l1 * (drawn - x).abs().mean((1, 2, 3))
    for a, b in zip(seen, wanted, strict=True):
        difference = (unit_normalized(a) - unit_normalized(b)).square().sum(1)  # (B, H, W)
        loss = loss + weights.features * difference.mean((1, 2))
    return loss


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The divergence from the prior of posteriors (B, D), nats a picture, mean over the batch."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def outside_loss(drawn: Tensor) -> Tensor:
    """The mean squared distance of pixels from [-1, 1]."""
    return F.relu(drawn.abs() - 1).square().mean()


@torch.no_grad()
def whiten_posterior(learner: Learner, pictures: Pictures) -> Tensor:
    """Whiten the aggregate posterior of all pictures, groups in balance as they are drawn.

    Returns:
        The eigenvalues (D,) of its covariance, from the smallest.
    """
    rows = []
    largest = max(len(places) for places in pictures.members.values())
    places = [m[i % len(m)] for m in pictures.members.values() for i in range(largest)]
    for start in range(0, len(places), POSTERIOR_BATCH):
        x = pictures.take(places[start : start + POSTERIOR_BATCH]).to(learner.device)
        rows += [learner.encoder(x)] + (
            [learner.encoder(x.flip(3))] if learner.settings.mirror else []
        )
    mappings = (learner.G.mapping, learner.ema.mapping)
    return whiten(mappings, learner.encoder, aggregate_moments(rows))
