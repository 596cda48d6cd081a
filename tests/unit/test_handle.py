"""The records of a batch as its tasks end."""

from __future__ import annotations

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.handle import Completing, _EndedTasks
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import encode


def test_a_batch_that_ends_as_the_time_is_over() -> None:
    """Records that come between the timeout and the look at the batch's end are not dropped."""
    batch = read_batch({"tasks": [{"domain": "sorting", "parameters": {"list_length": 8}}] * 2}, REGISTRY)
    ended = _EndedTasks(batch, True, lambda counts: None, lambda failure: None)

    class Handle:
        """A handle of a batch that ends when somebody asks whether it has."""

        @property
        def done(self) -> bool:
            if not ended.is_over:
                ended.on_completed([(number, encode({}), 0.0, 0.1) for number in range(2)], "node")
                ended.on_end(None)
            return ended.is_over

        def wait(self) -> bool:
            return self.done

    records = Completing(Handle(), ended, timeout_s=0.0)  # type: ignore[arg-type]
    assert [record.status for record in records] == ["completed"] * 2
