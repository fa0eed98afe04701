"""Start Ovi Studio with `python app.py` and open it in a browser. Also the entry point of a Hugging Face Space.

`demo` is the page with the default folders, for tools that import it; it is built on first access.
"""

import argparse
import errno
import logging
import os
import re
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from ovi_studio.core.allocator import share_host_arenas
from ovi_studio.core.errors import JobError
from ovi_studio.core.imports import without_collecting
from ovi_studio.core.log_lines import keep_lines_whole, start_log
from ovi_studio.core.signals import exit_cleanly_on_signals
from ovi_studio.core.terminal import use_forgiving_output
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY, add_studio_options
from ovi_studio.farm.command import add_farm_options, farm_address, join_line
from ovi_studio.media.pictures import MAX_FILE_SIZE
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.prompt_helper.settings import HelperSettings

DEFAULT_PORT = 7860
LOGIN_VARIABLE = "OVI_STUDIO_LOGIN"
_ALL_INTERFACES = "0.0.0.0"


def __getattr__(name: str) -> Any:
    if name != "demo":
        raise AttributeError(name)
    from ovi_studio.services.studio import Studio
    from ovi_studio.services.upload_folder import use_folder

    studio = Studio.open(DEFAULT_OUTPUT_DIRECTORY, open_to_all=_on_space())
    # Not emptied, since a page that runs may be using it.
    use_folder(studio.paths.uploads)
    from ovi_studio.web.studio_page import build_studio

    return build_studio(studio)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; some defaults depend on the environment."""
    parser = argparse.ArgumentParser(prog="python app.py", description="Ovi Studio: clips with picture and sound.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--host",
        default=_ALL_INTERFACES if _on_space() else "127.0.0.1",
        help="address to listen on; any but a loopback address requires a login (default: %(default)s)",
    )
    where.add_argument(
        "--listen", action="store_true", help="accept connections from other machines: same as --host 0.0.0.0"
    )
    parser.add_argument("--share", action="store_true", help="also create a public link; requires a login")
    parser.add_argument(
        "--login",
        metavar="USER:PASSWORD",
        default=os.environ.get(LOGIN_VARIABLE),
        help=f"user name and password (default: ${LOGIN_VARIABLE}; generated and printed if needed)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer to this host name, such as that of a proxy in front of this server; repeatable",
    )
    parser.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="trust this proxy's X-Forwarded-For, so that wrong logins are counted by client address; repeatable",
    )
    parser.add_argument(
        "--root-path",
        type=_root_path,
        default="",
        metavar="/PATH",
        help="path under which a proxy serves the page, such as /ovi for https://example.org/ovi/",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--mcp",
        action="store_true",
        help="also serve MCP at /mcp, for programs that use language models; needs the extra [mcp]",
    )
    parser.add_argument(
        "--metrics",
        action="store_true",
        help="also serve figures of the queue and its machines at /metrics, for Prometheus",
    )
    add_studio_options(parser)
    add_farm_options(parser)
    HelperSettings.add_to(parser)
    parser.add_argument(
        "--engines",
        type=int,
        default=1,
        metavar="N",
        help="run one engine on each of N GPUs, to finish a queue sooner",
    )
    parser.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        default=_has_display(),
        help="open a browser (default: if there is a display)",
    )
    options = parser.parse_args(arguments)
    if options.listen:
        options.host = _ALL_INTERFACES
    options.login_is_seen = options.login is not None and options.login != os.environ.get(LOGIN_VARIABLE)
    if options.login is not None and not all(options.login.partition(":")):
        parser.error("--login must be USER:PASSWORD, with neither part empty")
    return options


def login_of(options: argparse.Namespace) -> tuple[str, str, bool] | None:
    """Return (user, password, whether they were generated); None if the page needs no login.

    A Space is public by its owner's choice; a login can be set in its secrets.
    """
    if options.login is not None:
        user, _, password = options.login.partition(":")
        return user, password, False
    if options.share or (not _is_loopback(options.host) and not _on_space()):
        from ovi_studio.web.guard import make_password

        return "studio", make_password(), True
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until SIGINT (Ctrl+C) or SIGTERM, then shut down the engines, too."""
    try:
        options = parse_arguments(arguments)
    except JobError as error:
        sys.exit(str(error))
    share_host_arenas()
    # Before the slow imports, so that the errors are immediate.
    if options.mcp and find_spec("mcp") is None:
        sys.exit("--mcp needs the package mcp; install it with `pip install 'mcp>=1.21,<2'`.")
    if problem := _port_problem(options.host, options.port):
        sys.exit(problem)
    from ovi_studio.services.studio import Studio

    try:
        farm = farm_address(options)
        studio = Studio.open(
            options.out,
            RuntimeOptions.of(options),
            state=options.state,
            models=options.models,
            engines=options.engines,
            farm=farm,
            open_to_all=_on_space() and options.login is None and not options.share,
            helper=HelperSettings.of(options),
        )
        studio.start()
        if farm is not None and farm.own:
            # To the terminal and to no log, since it contains the token.
            print(f"On another machine, in a copy of Ovi Studio: {join_line(farm, studio.paths)}", flush=True)
    except JobError as error:
        sys.exit(str(error))
    try:
        _serve(studio, options)
    except OSError:
        # Another program may have taken the port in the meantime.
        if problem := _port_problem(options.host, options.port):
            sys.exit(problem)
        raise
    except KeyboardInterrupt:
        # While the page was being built; afterwards Gradio handles it.
        pass
    finally:
        studio.close()


def _serve(studio: Any, options: argparse.Namespace) -> None:
    # Read by the server when it starts; by default it would trust any proxy on this machine.
    os.environ["FORWARDED_ALLOW_IPS"] = ",".join(options.trusted_proxy)
    start_log(studio.paths.page_log, to_terminal=True)
    with without_collecting():
        from starlette.routing import BaseRoute

        from ovi_studio.services.upload_folder import UploadFolder

        uploads = UploadFolder(studio.paths.uploads)
        from ovi_studio.web.drop.routes import drop_routes
        from ovi_studio.web.guard import checker, guard
        from ovi_studio.web.hosts import Hosts
        from ovi_studio.web.media_routes import media_routes
        from ovi_studio.web.sessions import MAX_SESSIONS
        from ovi_studio.web.studio_page import build_studio
        from ovi_studio.web.theme import launch_options

        hosts = Hosts(options.host, options.allow_host)
        login = login_of(options)
        extra: dict[str, Any] = {"middleware": [guard(hosts, uploads)]}
        routes: list[BaseRoute] = [*media_routes(studio), *drop_routes(studio.intake)]
        if options.mcp:
            from ovi_studio.web.mcp_server import McpServer

            programs = McpServer(studio, options.root_path)
            extra["lifespan"] = programs.lifespan
            routes = [*programs.routes, *routes]
        if options.metrics:
            from ovi_studio.web.metrics import metrics_route

            routes = [metrics_route(studio), *routes]
        page = build_studio(studio).queue(max_size=None)
    # Gradio's value on Windows; elsewhere it polls its queue 1000 times a second, which took 9% of a core (6.31).
    page._queue.sleep_when_free = 0.05
    _, url, share_url = page.launch(
        server_name=options.host,
        server_port=options.port,
        inbrowser=options.open,
        share=options.share,
        root_path=options.root_path,
        auth=checker(login[0], login[1]) if login else None,
        app_kwargs={"routes": routes, **extra},
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=MAX_FILE_SIZE,
        state_session_capacity=MAX_SESSIONS,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        **launch_options(),
    )
    # Errors of the web server belong in the same log.
    server_log = logging.getLogger("uvicorn")
    server_log.handlers.clear()
    server_log.propagate = True
    print(f"Ovi Studio: {url} (press Ctrl+C to stop)", flush=True)
    if options.mcp:
        print(f"MCP: {url.rstrip('/')}/mcp", flush=True)
    if options.metrics:
        print(f"Metrics: {url.rstrip('/')}/metrics", flush=True)
    if share_url:
        hosts.add(urlsplit(share_url).hostname or "")
        print(f"Public link, protected by the login: {share_url}", flush=True)
    if options.login_is_seen:
        print(
            f"Other users of this machine can see --login in the list of processes; ${LOGIN_VARIABLE} is private.",
            file=sys.stderr,
        )
    if login and login[2]:
        print(f"Login: {login[0]}  Password: {login[1]}  (choose your own with --login USER:PASSWORD)", flush=True)
    _end_promptly(page)
    page.block_thread()


def _end_promptly(page: Any) -> None:
    """Let the server end although pages are open: each waits for an answer of Gradio's that has no end (6.31)."""
    close = page.server.close

    def close_all() -> None:
        page.server_app.stop_event.set()
        close()

    page.server.close = close_all


def _root_path(text: str) -> str:
    path = f"/{text.strip('/')}".rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /ovi, without host name and query")
    return path


def _port_problem(host: str, port: int) -> str | None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if sys.platform != "win32":
            # A port released moments ago counts as free, as it does for the server; on Windows this option would make
            # a port in use look free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            return f"There is no port {port}; choose one between 1024 and 65535 with --port."
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return (
                    f"Port {port} is in use by another program, perhaps another Ovi Studio. Choose a free one "
                    f"with --port, for example --port {port + 1}."
                )
            return (
                f"Ovi Studio cannot listen on {host}:{port} ({error.strerror}); choose others with --host and --port."
            )
    return None


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _on_space() -> bool:
    return "SPACE_ID" in os.environ


def _has_display() -> bool:
    if _on_space() or "CI" in os.environ or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("win32", "darwin") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


if __name__ == "__main__":
    use_forgiving_output()
    keep_lines_whole()
    exit_cleanly_on_signals()
    main()
