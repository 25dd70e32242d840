"""Builds attention-unet in PyTorch, loads weights that `picker model export` wrote, and compares its
answer to the exported example with picker's.

    python attention_unet.py WEIGHTS EXAMPLE

Needs torch alone. Prints the largest difference of the logits and fails above 1e-4.
"""

import json
import sys

import torch
from torch import nn

TOLERANCE = 1e-4


def read(path):
    """A safetensors file: metadata and tensors, all of them f32."""
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", name
        first, last = (start + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(bytearray(data[first:last]), dtype=torch.float32)
        tensors[name] = values.reshape(entry["shape"])
    return json.loads(metadata["picker"]), tensors


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def project(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))


class Gate(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.skip = project(features, features // 2)
        self.below = project(features, features // 2)
        self.weigh = project(features // 2, 1)

    def forward(self, skip, below):
        agreement = torch.relu(self.skip(skip) + self.below(below))
        return skip * torch.sigmoid(self.weigh(agreement))


class Decoder(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * features, features, 2, stride=2)
        self.gate = Gate(features)
        self.merge = double_conv(2 * features, features)

    def forward(self, x, skip):
        below = self.up(x)
        return self.merge(torch.cat([self.gate(skip, below), below], dim=1))


class AttentionUNet(nn.Module):
    def __init__(self, base_features, levels=4):
        super().__init__()
        features = [base_features << level for level in range(levels + 1)]
        inputs = [1] + features
        self.encoder = nn.ModuleList(
            double_conv(inputs[level], features[level]) for level in range(levels)
        )
        self.bottom = double_conv(features[-2], features[-1])
        self.decoder = nn.ModuleList(Decoder(features[level]) for level in range(levels))
        self.head = nn.Conv2d(base_features, 1, 1)

    def forward(self, x):
        skips = []
        for encoder in self.encoder:
            skips.append(encoder(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for decoder, skip in zip(reversed(self.decoder), reversed(skips)):
            x = decoder(x, skip)
        return self.head(x)


def main(weights_path, example_path):
    description, weights = read(weights_path)
    _, example = read(example_path)
    network = AttentionUNet(description["architecture"]["base_features"])
    # Strict: every tensor of the module is in the file and none besides. Files without PyTorch's
    # version numbers need no `num_batches_tracked`.
    network.load_state_dict(weights)
    network.eval()
    with torch.no_grad():
        output = network(example["input"])
    spread = example["output"].std().item()
    worst = (output - example["output"]).abs().max().item()
    print(f"torch {torch.__version__}: {len(weights)} tensors, logits spread {spread:.3f}, "
          f"largest difference {worst:.2e}")
    assert spread > 0.1, "an example that is answered everywhere alike shows nothing"
    assert worst < TOLERANCE, worst


if __name__ == "__main__":
    main(*sys.argv[1:])
