"""What several tests of flows stand on."""

from collections.abc import AsyncIterator

import pytest

from imgpro.store.db import Database
from imgpro.store.layout import DataDir
from tests.houses import House


@pytest.fixture
async def house(tmp_path) -> AsyncIterator[House]:
    data = DataDir.open(tmp_path / "data")
    db = await Database.open(data.database, data.backups, data.instance_id, "1.0")
    found = House(data, db)
    yield found
    await found.derivs.close()
    await found.blobs.close()
    await db.close()
    data.close()
