"""Keeps the executable open, so that its modules can still be loaded after an upgrade has put another in its place.

Runs in the frozen program before anything of imgpro does.
"""

import fcntl
import os

import pyimod02_importers

_archive = pyimod02_importers.pyz_archive
_file = os.open(_archive._filename, os.O_RDONLY | os.O_CLOEXEC)
_high = fcntl.fcntl(_file, fcntl.F_DUPFD_CLOEXEC, 201)  # descriptors that are handed over have low numbers
os.close(_file)
if os.path.exists(f"/proc/self/fd/{_high}"):
    _archive._filename = f"/proc/self/fd/{_high}"
