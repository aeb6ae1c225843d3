"""The architecture of a refiner, as JSON and as checked."""

import json

import pytest

from sanarestore.model.refiner_config import RefinerConfig


def test_a_configuration_survives_json() -> None:
    config = RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    assert RefinerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_block_counts_must_fit_the_levels() -> None:
    with pytest.raises(ValueError, match="block counts"):
        RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1,))


def test_a_stride_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="takes three"):
        RefinerConfig(widths=(4, 8), encoder_blocks=(1,), decoder_blocks=(1,))
