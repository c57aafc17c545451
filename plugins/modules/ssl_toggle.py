# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssl_toggle
short_description: Switch a service to TLS with a valid certificate and key, or to no TLS
description:
  - Checks certificate, key and chain before anything is changed. Then writes them for the service, with the part of its
    configuration that switches TLS, checks the whole configuration with the service's own program, reloads the service,
    and compares the certificate that it presents with the given one.
  - If that fails, the previous files are restored and loaded again, and the error gives the reason.
  - If the service is not running, only its files are written. A service that presents another certificate than its
    files contain, such as after a run that was killed, is reloaded again.
  - The service's configuration must include the files that this module writes to O(directory). For V(nginx) each
    C(server) has C(include .../NAME.conf*) instead of C(listen), for V(redis) there is C(include .../tls.conf*) instead
    of C(port). V(postgres) reads them from C(conf.d), and V(minio) is started with C(--certs-dir).
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
    description: Whether the service uses TLS.
    type: str
    choices: [enabled, disabled]
    default: enabled
  certificate:
    description:
      - A single certificate in PEM form, as a path on the host or as text.
      - Required with O(state=enabled).
    type: str
  key:
    description: The private key, as a path on the host. The file must not be readable by others.
    type: path
  key_text:
    description: The private key as text, instead of O(key).
    type: str
  chain:
    description: Certificates of the authorities between O(certificate) and one of O(authorities), as O(certificate).
    type: str
  sources_changed:
    description: Whether this run changes the files at O(certificate) and O(key), which check mode cannot see.
    type: bool
    default: false
  authorities:
    description: Authorities that the service's clients trust, as paths on the host or as texts.
    type: list
    elements: str
    default: [/etc/ssl/certs/ca-certificates.crt]
  names:
    description: Names and addresses that O(certificate) must be valid for.
    type: list
    elements: str
    default: []
  minimum_days:
    description: Number of days from now for which the certificates must be valid.
    type: float
    default: 0
  address:
    description: Address and port where the service's certificate is checked; V(redis) and V(nginx) listen there.
    type: str
    required: true
  listen:
    description: For V(nginx), the address and port of each C(server), by its name.
    type: dict
    default: {}
  hsts_max_age_seconds:
    description: For V(nginx), lifetime of the HSTS header, by which browsers use HTTPS only; V(0) sends none.
    type: int
    default: 0
  ciphers:
    description: Cipher suites of TLS 1.2, in OpenSSL's notation; by default those of OpenSSL. MinIO has its own.
    type: str
    default: DEFAULT
  client_authorities:
    description:
      - For V(redis) and V(postgres), the authorities that must have issued a client's certificate, as texts.
      - PostgreSQL requires one only if C(pg_hba.conf) says so.
    type: list
    elements: str
    default: []
  username:
    description:
      - For V(redis), a user with the right to C(CONFIG SET), so that a new pair is loaded without a restart.
    type: str
  password:
    description: Its password.
    type: str
  unit:
    description: The service's systemd unit; by default C(nginx), C(postgresql), C(redis-server) or C(minio).
    type: str
  directory:
    description:
      - Directory of certificate and key; other files in it are removed.
      - By default C(/etc/nginx/mlfleet-tls), C(/etc/postgresql/15/main/tls), C(/etc/redis/tls) or
        C(/etc/mlfleet/minio/certs). For V(postgres) its parent contains C(conf.d).
    type: path
  owner:
    description: User that reads the files; by default that of Debian's package, V(root) for V(nginx).
    type: str
  timeout_seconds:
    description: Timeout for the service to present the certificate after a restart.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: >-
      Checks the pair and predicts; a source that does not exist yet, or a library that this run installs, counts as a
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
  description: SHA-256 fingerprint of the certificate that the service presents; empty without TLS.
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
  description: Action on the running service, or predicted action in check mode.
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
