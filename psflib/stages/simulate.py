"""The stage `simulate`."""

from psflib.files.writing import write_image
from psflib.simulation import simulate as simulation


def simulate(template, epoch_1, epoch_2, truth, settings) -> None:
    """The embedded field: three images as a camera writes them, and the truth."""
    made = simulation.simulate_field(settings)
    write_image(template, made.template)
    write_image(epoch_1, made.science["1"])
    write_image(epoch_2, made.science["2"])
    made.truth.write(truth, format="ascii.ecsv", overwrite=True)
