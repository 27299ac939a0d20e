"""What a system is called, and whether it is a result."""

import pytest

from emoq_plugin.routing.systems import display_name, is_control


@pytest.mark.parametrize(
    ("system", "name", "control"),
    [
        ("balanced", "balanced RVQ", False),
        ("specific-gain", "Emo-Q, gain router", False),
        ("specific-soft", "Emo-Q, soft mixture", False),
        ("specific-random", "specific, random route (control)", True),
        ("biased95-distortion", "biased 95 %, distortion router", False),
        ("biased99-wrong", "biased 99 %, wrong route (control)", True),
        ("capacity-distortion", "capacity control, distortion router", True),
        ("balanced+clip32", "balanced RVQ + clip code of 32 bits", False),
        ("clip32", "clip code of 32 bits", False),
        (
            "label",
            "label alone: route of Emo-Q, calibrated router (control)",
            True,
        ),
    ],
)
def test_systems_are_named_for_readers_and_controls_are_marked(system, name, control):
    assert (display_name(system), is_control(system)) == (name, control)
