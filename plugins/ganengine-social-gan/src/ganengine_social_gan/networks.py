"""G: encoder, pooling over the people of a scene, decoder. D: an LSTM over the whole path.

Paths are [rows, steps, 2]; `starts` [N + 1] says which rows are the people of which scene. Both networks see ways from
step to step in units of a typical one, and ways between people: neither knows an origin, or an order of people.
"""

from __future__ import annotations

import torch
from ganengine.errors import UserError
from ganengine.nn.init import initialise
from ganengine.ragged import maxima, owners, pairs
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_social_gan.config import SocialGANConfig


def build(config: SocialGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: observed, starts, z [N, k, noise] -> futures [rows, k, steps, 2], and D: paths -> logits [rows].

    Raises:
        UserError: data of another form.
    """
    observed, future = (data_spec.fields[name] for name in ("observed", "future"))
    if any(field.kind != "points" or not field.ragged or field.shape[1:] != (2,) for field in (observed, future)):
        raise UserError("social-gan: expected ragged points [steps, 2], got another kind of data. Use tracks:FOLDER.")
    if observed.shape[0] < 2:
        raise UserError(f"social-gan: expected at least 2 observed steps, got {observed.shape[0]}.")
    G, D = Generator(config, future.shape[0], observed.scale), Discriminator(config, observed.scale)
    for network in (G, D):  # LSTMs keep torch's own start: their weights have other names
        initialise(network, "he", torch.default_generator)
    if config.residual:
        with torch.no_grad():
            G.out.weight.mul_(0.1)  # begins near walking straight on
    return {"G": G, "D": D}


class Generator(nn.Module):
    """Embed and encode the observed steps, pool over the scene, and walk on from [context, z].

    Args:
        config: widths, pooling, residual.
        steps: to predict.
        scale: typical length of a step, in the units of the data.
    """

    def __init__(self, config: SocialGANConfig, steps: int, scale: float) -> None:
        super().__init__()
        self.steps, self.scale, self.residual = steps, scale, config.residual
        self.embed_seen = nn.Linear(2, config.embed)
        self.encoder = nn.LSTM(config.embed, config.g_encoder, batch_first=True)
        self.pool = Pooling(config) if config.pooling == "people" else None
        context = config.g_encoder + (config.bottleneck if self.pool else 0)
        self.context = nn.Sequential(
            nn.Linear(context, config.g_mlp),
            nn.ReLU(),
            nn.Linear(config.g_mlp, config.g_decoder - config.noise),
            nn.ReLU(),
        )
        self.embed_made = nn.Linear(2, config.embed)
        self.decoder = nn.LSTMCell(config.embed, config.g_decoder)
        self.out = nn.Linear(config.g_decoder, 2)

    def forward(self, observed: Tensor, starts: Tensor, z: Tensor) -> Tensor:
        """Return futures [rows, k, steps, 2] for observed paths [rows, steps, 2] and latents z [N, k, noise]."""
        rows, futures = len(observed), z.shape[1]
        seen = observed.diff(dim=1) / self.scale
        _, (state, _) = self.encoder(self.embed_seen(seen))
        h = state[0]
        if self.pool is not None:
            h = torch.cat((h, self.pool(observed[:, -1] / self.scale, h, starts)), 1)
        context = self.context(h).unsqueeze(1).expand(-1, futures, -1)
        noise = z[owners(starts, rows)].to(context.dtype)
        hidden = torch.cat((context, noise), 2).flatten(0, 1)
        cell = torch.zeros_like(hidden)
        step = seen[:, -1].repeat_interleave(futures, 0)
        made = []
        for _ in range(self.steps):
            hidden, cell = self.decoder(self.embed_made(step), (hidden, cell))
            out = self.out(hidden).to(step.dtype)
            step = step + out if self.residual else out
            made.append(step)
        ways = torch.stack(made, 1).cumsum(1).view(rows, futures, self.steps, 2)
        result: Tensor = observed[:, None, -1:] + self.scale * ways
        return result


class Pooling(nn.Module):
    """max over j of FC(FC([FC(p_j - p_i), h_j])), j all people of i's scene, i included.

    Args:
        config: widths.

    Paper: 1803.10892, section 3.2.
    """

    def __init__(self, config: SocialGANConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(2, config.embed)
        self.mlp = nn.Sequential(
            nn.Linear(config.embed + config.g_encoder, config.pool_hidden),
            nn.ReLU(),
            nn.Linear(config.pool_hidden, config.bottleneck),
            nn.ReLU(),
        )

    def forward(self, place: Tensor, h: Tensor, starts: Tensor) -> Tensor:
        """Return [rows, bottleneck] for places [rows, 2] and states [rows, encoder]."""
        first, second, begins = pairs(starts, len(place))
        way = self.embed(place[second] - place[first])
        return maxima(self.mlp(torch.cat((way, h[second].to(way.dtype)), 1)), begins)


class Discriminator(nn.Module):
    """Embed the steps of a whole path, LSTM, hidden layer, one linear output.

    Args:
        config: widths.
        scale: typical length of a step, in the units of the data.
    """

    def __init__(self, config: SocialGANConfig, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.embed = nn.Linear(2, config.embed)
        self.encoder = nn.LSTM(config.embed, config.d_encoder, batch_first=True)
        self.out = nn.Sequential(nn.Linear(config.d_encoder, config.d_mlp), nn.ReLU(), nn.Linear(config.d_mlp, 1))

    def forward(self, path: Tensor) -> Tensor:
        """Return logits [rows] for paths [rows, steps, 2]."""
        _, (state, _) = self.encoder(self.embed(path.diff(dim=1) / self.scale))
        logits: Tensor = self.out(state[0]).flatten()
        return logits
