"""The doctor: walks the layers from the settings to an attributed answer and names the first that is broken.

It reads and asks: no process is started, no weight moved. It changes one thing: runs of Dagster and MLflow whose
process no longer exists are ended as FAILED, because they would keep others waiting. A layer is examined only when
every layer it needs was; the others are *not reached*, rather than guessed.
"""

from financial_assets.doctor import report
from financial_assets.doctor.examination import examine
from financial_assets.doctor.walk import Finding, first_broken

__all__ = ["Finding", "examine", "first_broken", "report"]
