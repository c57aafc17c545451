# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of modules that install a new version of a program."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  trial:
    description:
      - A program that the Python of the new version must run successfully before that version is used, within ten
        minutes.
      - If it fails, the previous version stays in use, and the task fails with the last line of its output. If it
        succeeds, that line is a warning.
    type: dict
    suboptions:
      program:
        description: Text of the program.
        type: str
        required: true
      arguments:
        description: Its arguments.
        type: list
        elements: str
        default: []
      environment:
        description: Its environment. Never shown, because it may contain a password.
        type: dict
        default: {}
      python:
        description: In an image, its interpreter; a virtual environment has its own.
        type: path
        default: /usr/bin/python3
      paths:
        description:
          - In an image, the paths of the host that the program may read, if they exist. It runs as root and sees no
            others.
        type: list
        elements: path
        default: []
"""
