# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables that are rendered once in a task, however many of its settings refer to them."""

from __future__ import annotations

from ansible._internal._templating import _lazy_containers as lazy
from ansible._internal._templating._engine import TemplateEngine
from ansible._internal._templating._utils import LazyOptions
from ansible.template import Templar


def render_once(templar: TemplateEngine | Templar) -> None:
    """Has a templar keep what it renders, as ansible-core has it while it renders one template.

    It makes such a dictionary of all variables anew for each template that a template refers to, unless there is one.
    """
    variables = templar.available_variables
    if isinstance(variables, dict) and not isinstance(variables, lazy._AnsibleLazyTemplateDict):
        values = ((name, lazy._LazyValue(value)) for name, value in variables.items())
        engine = getattr(templar, "_engine", templar)
        source = lazy._LazyValueSource(source=values, templar=engine, lazy_options=LazyOptions.DEFAULT)
        templar.available_variables = lazy._AnsibleLazyTemplateDict(source)
