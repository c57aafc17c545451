"""Made by mlfleet: gives Python before 3.11.4 the tarfile with filters, with which jobs extract their archives."""

import contextlib
import sys
import tarfile

if not hasattr(tarfile, "data_filter"):
    # Programs without the backport, such as the system's own, go on with what they have.
    with contextlib.suppress(ImportError):
        import backports.tarfile

        sys.modules["tarfile"] = backports.tarfile
