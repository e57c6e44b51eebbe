"""Kamailio as the SIP server that others have: a registrar and proxy, which asks everyone for their password.

It record-routes. Calls to a registered name go there, all others to `relay`, where one is given.
"""

import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.process import LOCALHOST, Process, free_port, started

SHARED_MB = 32
PRIVATE_MB = 8
ANSWER_S = 0.2
CONFIG = """\
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}

loadmodule "kex.so"
loadmodule "ctl.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "auth.so"
loadmodule "htable.so"

modparam("ctl", "binrpc", "unix:{folder}/control")
modparam("tm", "fr_timer", 1500)
modparam("tm", "fr_inv_timer", 60000)
modparam("rr", "enable_full_lr", 1)
modparam("rr", "append_fromtag", 1)
modparam("registrar", "max_expires", 300)
modparam("registrar", "gruu_enabled", 0)
modparam("usrloc", "db_mode", 0)
modparam("htable", "htable", "users=>size=6;")

request_route {{
  if (!mf_process_maxfwd_header("70")) {{
    sl_send_reply("483", "Too Many Hops");
    exit;
  }}
  if (is_method("CANCEL")) {{
    if (t_check_trans()) t_relay();
    exit;
  }}
  if (has_totag()) {{
    if (loose_route()) {{
      t_relay();
      exit;
    }}
    if (is_method("ACK")) {{
      if (t_check_trans()) t_relay();
      exit;
    }}
    sl_send_reply("404", "Not Here");
    exit;
  }}
  if (t_check_trans()) exit;
  if (is_method("OPTIONS") && uri == myself && $rU == $null) {{
    sl_send_reply("200", "OK");
    exit;
  }}
  if ({asks}) route(AUTHENTICATE);
  remove_hf("Route");
  if (is_method("REGISTER")) {{
    if (!save("location")) sl_reply_error();
    exit;
  }}
  record_route();
  if (lookup("location")) {{
    t_relay();
    exit;
  }}
  {relay}
  sl_send_reply("404", "Not Found");
}}

route[AUTHENTICATE] {{
  if ($au != $null && $sht(users=>$au) != $null) {{
    if (pv_auth_check("$fd", "$sht(users=>$au)", "0", "0")) {{
      consume_credentials();
      return;
    }}
  }}
  if (is_method("REGISTER")) {{
    www_challenge("$fd", "1");
  }} else {{
    proxy_challenge("$fd", "1");
  }}
  exit;
}}

event_route[htable:mod-init] {{
{users}}}
"""
RELAY = """\
$du = "{to}";
  t_relay();
  exit;"""


@dataclass(frozen=True, slots=True)
class Kamailio:
    process: Process
    port: int
    """UDP and TCP."""

    @property
    def address(self) -> str:
        """`host:port`, as a registrar or outbound proxy has it."""
        return f"{LOCALHOST}:{self.port}"

    @property
    def log(self) -> str:
        return self.process.log

    def uri(self, user: str) -> str:
        """Where a registered user is called at."""
        return f"sip:{user}@{self.address}"


@asynccontextmanager
async def kamailio(
    folder: Path, users: Mapping[str, str], *, relay: str = "", trusts: int | None = None, port: int | None = None
) -> AsyncIterator[Kamailio]:
    """A server that is ready.

    Arguments:
        users: names and their passwords; the realm is the host in the From header, without port.
        relay: a URI (`sip:127.0.0.1:5070;transport=tcp`) for requests to whoever is not registered.
        trusts: a port on 127.0.0.1 from which requests need no password: that of the server at `relay`.
    """
    port = port or free_port()
    asks = 'is_method("REGISTER|INVITE")' + (f" && $sp != {trusts}" if trusts else "")
    text = CONFIG.format(
        host=LOCALHOST,
        port=port,
        folder=folder,
        asks=asks,
        relay=RELAY.format(to=relay) if relay else "",
        users="".join(f'  $sht(users=>{name}) = "{password}";\n' for name, password in users.items()),
    )
    file = _prepare(folder, text)
    arguments = ["-f", str(file), "-P", str(folder / "pid"), "-w", str(folder), "-Y", str(folder), "-DD", "-E"]
    arguments += ["-m", str(SHARED_MB), "-M", str(PRIVATE_MB), "-n", "1"]
    async with started("kamailio", "kamailio", arguments, folder) as process:
        await process.until(lambda: _answers(port), "an answer to OPTIONS")
        yield Kamailio(process, port)


def _prepare(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "kamailio.cfg"
    file.write_text(text)
    return file


def _answers(port: int) -> bool:
    """It takes a moment between its sockets and its workers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(ANSWER_S)
        probe.connect((LOCALHOST, port))
        here = f"{LOCALHOST}:{probe.getsockname()[1]}"
        lines = (
            f"OPTIONS sip:{LOCALHOST}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{secrets.token_hex(8)}",
            f"From: <sip:probe@{here}>;tag=1",
            f"To: <sip:{LOCALHOST}:{port}>",
            f"Call-ID: {secrets.token_hex(8)}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
        )
        try:
            probe.send(("\r\n".join(lines) + "\r\n\r\n").encode())
            return probe.recv(2048).startswith(b"SIP/2.0 200")
        except OSError:
            return False
