"""Made by mlfleet: an application verifies broker and result store by authority and by name, whatever it asks for.

An application that knows only CELERY_BROKER_URL=amqps://… has no certificate's name compared, with or without
`broker_use_ssl`: kombu does it for one key of that setting alone. So py-amqp's and redis-py's own step into TLS is
replaced. That happens when their modules are imported, not here: an import at the start would come before gevent's and
eventlet's changes to sockets, and would cost every program its time. A module that lacks the step ends the application.

The authority is SERVING_CA_FILE; without it, what OpenSSL trusts (SSL_CERT_FILE). Put on PYTHONPATH, because Debian's
own sitecustomize precedes that of a virtual environment.
"""

import os
import ssl
import sys


def _context(certificate=None, key=None, password=None, authority=None):
    context = ssl.create_default_context(cafile=os.environ.get("SERVING_CA_FILE") or authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key, password)
    return context


def _wrap_amqp(self, sock, certfile=None, keyfile=None, **_):
    return _context(certfile, keyfile).wrap_socket(sock, do_handshake_on_connect=False, server_hostname=self.host)


def _wrap_redis(self, sock):
    context = _context(self.certfile, self.keyfile, self.certificate_password, self.ca_certs)
    return context.wrap_socket(sock, server_hostname=self.host)


_STEPS = {
    "amqp.transport": ("SSLTransport", "_wrap_socket", _wrap_amqp),
    "redis.connection": ("SSLConnection", "_wrap_socket_with_ssl", _wrap_redis),
}


def _replace(module):
    owner, step, replacement = _STEPS[module.__name__]
    if not hasattr(getattr(module, owner, None), step):
        raise RuntimeError(f"mlfleet cannot have {module.__name__} verify certificates: it lacks {owner}.{step}")
    setattr(getattr(module, owner), step, replacement)


class _Finder:
    """Has the others find these modules, and changes them once they are loaded."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _STEPS:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not _Finder)
        spec = next(filter(None, found), None)
        if spec:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                _replace(module)

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder)
for _name in _STEPS.keys() & sys.modules.keys():
    _replace(sys.modules[_name])
