"""The refiner's configuration: JSON round trip and checks."""

import json

import pytest

from sanarestore.model.refiner_config import RefinerConfig


def test_a_configuration_round_trips_through_json() -> None:
    config = RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    assert RefinerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_block_counts_that_do_not_fit_the_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="block counts"):
        RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1,))


def test_a_stride_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="takes three"):
        RefinerConfig(widths=(4, 8), encoder_blocks=(1,), decoder_blocks=(1,))
