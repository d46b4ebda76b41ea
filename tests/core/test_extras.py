"""Libraries of extras that are not installed."""

import pytest

from alexnet.core.errors import AlexNetError
from alexnet.core.extras import import_extra


def test_a_missing_library_names_its_extra() -> None:
    with pytest.raises(AlexNetError, match=r'none_such is not installed; .*"alexnet\[onnx\]"'):
        import_extra("none_such", "onnx")
    assert import_extra("math", "onnx").pi > 3
