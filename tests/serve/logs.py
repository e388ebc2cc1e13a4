"""Records for the tests of the prediction log."""

from datetime import UTC, datetime

from rayplat.core.ids import new_prediction_id
from rayplat.serve.outbox import PredictionRecord

AT = datetime(2013, 9, 1, 12, 30, 0, 123456, tzinfo=UTC)


def record(number: int = 0, prediction_id: str | None = None) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=prediction_id or new_prediction_id(),
        endpoint="late",
        model="late",
        version=3,
        at=AT,
        asked_at=AT,
        request=f'{{"flight_id":{number}}}',
        features='{"weather__gusty":true}',
        provenance='{"weather":{"event_time":"2013-09-01T12:00:00+00:00","partition":0,"offset":7}}',
        probability=0.25,
        latency_s=0.004,
    )
