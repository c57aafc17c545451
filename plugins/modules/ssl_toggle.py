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
  - The service's configuration must include O(files), which state where the pair is and where the service listens.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
requirements:
  - cryptography (Python library, 38 or newer; Debian's python3-cryptography)
options:
  service:
    description: The service's name, which errors begin with.
    type: str
    required: true
  unit:
    description: Its systemd unit; by default O(service).
    type: str
  owner:
    description: User that reads the files, and group of the same name.
    type: str
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
  directory:
    description: Where the pair is written. Other files in it are removed, except those in O(files).
    type: path
    required: true
  certificate_file:
    description: Name in O(directory) of the file with the certificate and its chain.
    type: str
    default: certificate.pem
  key_file:
    description: Name in O(directory) of the file with the key.
    type: str
    default: key.pem
  client_authorities:
    description:
      - Authorities that may issue the certificate that a client must present, as texts.
      - They are written to C(clients.pem) in O(directory); O(files) must make the service ask for such a certificate.
    type: list
    elements: str
    default: []
  files:
    description:
      - The part of the service's configuration that switches TLS, as required in this O(state).
      - O(reload) makes a new pair effective, and these files only with O(reload_takes_files); otherwise the service is
        restarted.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The absolute path on the host.
        type: path
        required: true
      template:
        description: A template, found and rendered as M(ansible.builtin.template) does. A file has either this or
          O(files[].content).
        type: str
      content:
        description: Text of the file, written verbatim.
        type: raw
      vars:
        description: Additional variables for O(files[].template).
        type: dict
        default: {}
  checker:
    description: A command, word by word, that fails when the service would refuse its configuration as it is on disk.
    type: list
    elements: str
    default: []
  reload:
    description:
      - How to make the running service read a new pair of files without a restart.
      - V(systemctl) reloads its unit, V(signal) sends SIGHUP to the unit's main process, and V(live) informs the
        program in its own protocol, as described by O(live). By default it is restarted.
    type: str
    choices: [systemctl, signal, live]
  reload_takes_files:
    description: Whether O(reload) also makes it read O(files).
    type: bool
    default: false
  address:
    description: Address and port of the service where its certificate is checked.
    type: str
    required: true
  listen:
    description: Addresses and ports on which it must listen afterwards; on these ports it must listen nowhere else.
    type: list
    elements: str
    default: []
  tls_request:
    description:
      - For a service that speaks with and without TLS on one port, the request for TLS, in hexadecimal digits. The
        answer C(S) grants it.
      - V(0000000804d2162f) is that of PostgreSQL.
    type: str
  plain_request:
    description:
      - For a service that does not answer a TLS greeting when it runs without TLS, a line that it answers with C(+) or
        C(-).
      - For Redis, V(PING) is such a line. HTTP servers answer the greeting and need none.
    type: str
  timeout_seconds:
    description: Timeout for the service to present the certificate after a restart.
    type: int
    default: 60
extends_documentation_fragment: mlfleet.stack.live
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
# Its configuration has C(include /etc/redis/tls/tls.conf*) in place of C(port).
- name: Switch Redis to TLS
  mlfleet.stack.ssl_toggle:
    service: redis-server
    owner: redis
    certificate: /etc/mlfleet/tls/host.crt
    key: /etc/mlfleet/tls/host.key
    names: [redis.example.org]
    directory: /etc/redis/tls
    files:
      - path: /etc/redis/tls/tls.conf
        content: |
          port 0
          tls-port 6379
          tls-cert-file /etc/redis/tls/certificate.pem
          tls-key-file /etc/redis/tls/key.pem
          tls-auth-clients no
    address: 127.0.0.1:6379
    plain_request: PING

# Its C(server) has C(include /etc/nginx/tls/www.conf*) in place of C(listen).
- name: Switch nginx to TLS with a pair from the inventory
  mlfleet.stack.ssl_toggle:
    service: nginx
    owner: www-data
    certificate: "{{ lookup('ansible.builtin.file', 'files/www.crt') }}"
    key_text: "{{ www_key }}"
    directory: /etc/nginx/tls
    files:
      - {path: /etc/nginx/tls/www.conf, template: www.conf.j2}
    checker: [nginx, -t, -q]
    reload: systemctl
    reload_takes_files: true
    address: 127.0.0.1:443
    listen: ["0.0.0.0:443"]
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
restarts:
  description: Whether the running service is restarted for it.
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
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.take_up import ToggleError
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
