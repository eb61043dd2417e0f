"""The doctor: walks the layers from the settings to an attributed answer and names the first that is broken.

It only reads and asks: no process is started and no weight moved, with one exception: runs of Dagster and MLflow whose
process no longer exists are ended, as failed and as killed, because they would keep others waiting. A layer is examined
only if every layer that it needs works; the others are reported as *not reached*.
"""

from financial_assets.doctor import report
from financial_assets.doctor.examination import examine
from financial_assets.doctor.walk import Finding, first_broken

__all__ = ["Finding", "examine", "first_broken", "report"]
