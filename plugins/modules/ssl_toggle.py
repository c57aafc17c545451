# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssl_toggle
short_description: Switch a service to TLS with a valid certificate and key, or to no TLS
description:
  - Checks certificate, key and chain before anything is touched. Then writes them for the service, with the part of its
    configuration that switches TLS, has the service's own program judge the whole, reloads the service, and compares
    the certificate that it shows with the one that it was given.
  - When that fails, the former files are put back and taken up again, and the error says why.
  - A service that does not run is only given its files. One that shows another certificate than its files hold, such as
    after a run that was killed, is told again.
  - The service's configuration has to include what this module writes into O(directory). For V(nginx) each C(server)
    has C(include .../NAME.conf*) instead of C(listen), for V(redis) there is C(include .../tls.conf*) instead of
    C(port). V(postgres) reads it from C(conf.d) on its own, and V(minio) is started with C(--certs-dir).
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
requirements:
  - cryptography (Python library, 38 or newer; Debian's python3-cryptography)
options:
  service:
    description: The service.
    type: str
    choices: [nginx, postgres, redis, minio]
    required: true
  state:
    description: Whether it uses TLS.
    type: str
    choices: [enabled, disabled]
    default: enabled
  certificate:
    description:
      - The certificate, one in PEM form, as a path on the host or as text.
      - Needed with O(state=enabled).
    type: str
  key:
    description: The private key, as a path on the host. The file must not be readable by others.
    type: path
  key_text:
    description: The private key as text, in place of O(key).
    type: str
  chain:
    description: Certificates of the authorities between O(certificate) and one of O(authorities), as O(certificate).
    type: str
  sources_changed:
    description: Whether this run changes the files at O(certificate) and O(key), which in check mode cannot be seen.
    type: bool
    default: false
  authorities:
    description: Whom the service's clients trust, as paths on the host or as texts.
    type: list
    elements: str
    default: [/etc/ssl/certs/ca-certificates.crt]
  names:
    description: Names and addresses that O(certificate) has to be valid for.
    type: list
    elements: str
    default: []
  minimum_days:
    description: For how many days from now the certificates have to be valid.
    type: float
    default: 0
  address:
    description: Address and port at which the service is asked what it shows; V(redis) and V(nginx) listen there.
    type: str
    required: true
  listen:
    description: For V(nginx), the address and port of each C(server), by its name.
    type: dict
    default: {}
  hsts_max_age_seconds:
    description: For V(nginx), how long browsers are told to use HTTPS only; V(0) tells them nothing.
    type: int
    default: 0
  ciphers:
    description: Cipher suites of TLS 1.2, in OpenSSL's notation; by default what OpenSSL takes. MinIO has its own.
    type: str
    default: DEFAULT
  client_authorities:
    description:
      - For V(redis) and V(postgres), the authorities of whose certificates a client has to show one, as texts.
      - PostgreSQL asks only where C(pg_hba.conf) says so.
    type: list
    elements: str
    default: []
  username:
    description:
      - For V(redis), a user that may C(CONFIG SET), so that a new pair is taken up without a restart.
    type: str
  password:
    description: Its password.
    type: str
  unit:
    description: The service's systemd unit; by default C(nginx), C(postgresql), C(redis-server) or C(minio).
    type: str
  directory:
    description:
      - Where the pair is written; nothing else stays in it.
      - By default C(/etc/nginx/mlfleet-tls), C(/etc/postgresql/15/main/tls), C(/etc/redis/tls) or
        C(/etc/mlfleet/minio/certs). For V(postgres) its parent holds C(conf.d).
    type: path
  owner:
    description: User that reads the files; by default who does in Debian's package, V(root) for V(nginx).
    type: str
  timeout_seconds:
    description: How long the service may take to show the certificate after a restart.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: >-
      Checks the pair and predicts; a source that is not there yet, or a library that this run installs, counts as a
      change.
  diff_mode:
    support: full
    description: Shows subject, names, validity and fingerprint of both certificates, and the settings; never the key.
seealso:
  - module: mlfleet.stack.host_certificate
  - module: mlfleet.stack.ca_bundle
"""

EXAMPLES = r"""
- name: Have Redis speak TLS
  mlfleet.stack.ssl_toggle:
    service: redis
    certificate: /etc/mlfleet/tls/host.crt
    key: /etc/mlfleet/tls/host.key
    names: [redis.example.org]
    address: 127.0.0.1:6379

- name: Have nginx speak TLS with a pair from the inventory
  mlfleet.stack.ssl_toggle:
    service: nginx
    certificate: "{{ lookup('ansible.builtin.file', 'files/www.crt') }}"
    key_text: "{{ www_key }}"
    address: 127.0.0.1:443
    listen: {www: "0.0.0.0:443"}
    hsts_max_age_seconds: 31536000
"""

RETURN = r"""
fingerprint:
  description: SHA-256 fingerprint of the certificate that the service shows; empty without TLS.
  returned: success
  type: str
service:
  description: The service.
  returned: success
  type: str
speaks_tls:
  description: Whether the service speaks TLS after this; in check mode, whether it does so now.
  returned: success
  type: bool
action:
  description: What was done with the running service, or would be in check mode.
  returned: success
  type: str
  sample: files written and taken up
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.services import ToggleError
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.toggle import ARGUMENT_SPEC, CONDITIONS, switch


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **CONDITIONS)
    hold(module)
    try:
        result = switch(module.params, module.check_mode)
    except ToggleError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
