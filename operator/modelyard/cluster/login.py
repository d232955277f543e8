"""Who we are to the API server.

A kubeconfig, or the pod's service account. One source for our client and for kopf.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import kopf
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config


class LoginError(Exception):
    """No usable credentials; the message says where they were looked for."""


@dataclass(slots=True)
class Login:
    """Address and credentials. `in_cluster` tells whether pods can be reached by their addresses."""

    configuration: Configuration
    in_cluster: bool

    @property
    def server(self) -> str:
        """The API server's base URL."""
        return str(self.configuration.host).rstrip("/")

    def proxy(self) -> str | None:
        """The proxy that the credentials name, else the environment (HTTPS_PROXY, NO_PROXY)."""
        if self.configuration.proxy:
            return str(self.configuration.proxy)
        server = urlsplit(self.server)
        if proxy_bypass(server.netloc):
            return None
        return getproxies().get(server.scheme)

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS as the credentials want it; None for plain HTTP."""
        c = self.configuration
        if not self.server.startswith("https:"):
            return None
        context = ssl.create_default_context(cafile=c.ssl_ca_cert, cadata=c.ca_cert_data)
        if c.cert_file:
            context.load_cert_chain(c.cert_file, keyfile=c.key_file)
        if not c.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if c.disable_strict_ssl_verification:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    async def authorization(self) -> str | None:
        """The Authorization header, if the credentials are a token.

        Reads a rotated token when its time has come.
        """
        token: str | None = await self.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            return token if " " in token else f"Bearer {token}"
        if self.configuration.username and self.configuration.password:
            return str(self.configuration.get_basic_auth_token())
        return None

    async def for_kopf(self) -> kopf.ConnectionInfo:
        """The same for kopf's own client."""
        c = self.configuration
        scheme, _, token = (await self.authorization() or "").partition(" ")
        return kopf.ConnectionInfo(
            server=self.server,
            ca_path=c.ssl_ca_cert or None,
            ca_data=c.ca_cert_data or None,
            insecure=not c.verify_ssl,
            certificate_path=c.cert_file or None,
            private_key_path=c.key_file or None,
            scheme=scheme.capitalize() or None,
            token=token or None,
            proxy_url=c.proxy or None,
        )


async def log_in(kubeconfig: str | None = None) -> Login:
    """Takes the named kubeconfig, else $KUBECONFIG, else the pod's service account, else ~/.kube/config."""
    configuration = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        if not path and in_pod:
            load_incluster_config(configuration)
            return Login(configuration, in_cluster=True)
        path = path or os.path.expanduser("~/.kube/config")  # noqa: PTH111, ASYNC240 - once, at the start
        # Inline certificates go to files, which kubernetes.aio shares within the process and removes at its
        # end.
        await load_kube_config(
            config_file=path,
            client_configuration=configuration,
            persist_config=False,
        )
    except (ConfigException, OSError) as error:
        raise LoginError(
            f"can't log in to a cluster with {path or 'the service account'}: {error}. "
            "Pass --kubeconfig, set KUBECONFIG, or run in a pod that has a service account."
        ) from error
    return Login(configuration, in_cluster=in_pod)
