# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of modules that talk to a running program in its own protocol."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  live:
    description:
      - How to ask the program itself whether its memory agrees with its files, and to announce a new certificate to it.
      - It is reached at the address that the module checks.
    type: dict
    suboptions:
      program:
        description: The program.
        type: str
        choices: [redis]
        required: true
      username:
        description: An account that may do so; for V(redis) C(ACL CAT), C(ACL LIST), C(CONFIG GET) and C(CONFIG SET).
        type: str
        required: true
      password:
        description: Its password, sent only to a program whose user owns O(live.config_file).
        type: str
        required: true
      config_file:
        description:
          - The program's own settings file, which belongs to its user.
          - For V(redis) it names the file of users.
        type: path
        required: true
"""
