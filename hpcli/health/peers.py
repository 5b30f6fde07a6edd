"""Checks of what a node reaches: names, addresses, ports, ssh. The fault may be the other end's, so they only warn."""

import asyncio
import calendar
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Severity
from hpcli.errors import TimedOut
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.ports import Host

SLACK = 1.0
"""Seconds that a program gets beyond its own limit before it is killed."""

_CONNECT = 'exec 3<>"/dev/tcp/$1/$2"'
_GREETING = 'exec 3<>"/dev/tcp/$1/$2" && IFS= read -r line <&3 && printf "%s\\n" "$line"'
"""Scripts for bash, whose redirections open TCP connections; host and port come as arguments, never as code."""

_VALID = "Valid: from "


@dataclass(frozen=True, slots=True)
class DnsParameters:
    """`names` that must resolve, with commas. `limit`: seconds for each (ours)."""

    names: str = ""
    limit: float = 2.0


@dataclass(frozen=True, slots=True)
class PingParameters:
    """`peers` that must answer, with commas. `limit`: seconds for each (ours)."""

    peers: str = ""
    limit: float = 2.0


@dataclass(frozen=True, slots=True)
class PortParameters:
    """`peers` as HOST:PORT, with commas. `limit`: seconds for each (ours)."""

    peers: str = ""
    limit: float = 2.0


@dataclass(frozen=True, slots=True)
class SshParameters:
    """`peers` as HOST or HOST:PORT, with commas. `limit`: seconds for each (ours)."""

    peers: str = ""
    limit: float = 5.0


@dataclass(frozen=True, slots=True)
class CertificateParameters:
    """`days`: that a host certificate of sshd must still be valid (ours)."""

    days: float = 7.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`fault`: why the peer did not answer as it should, "" when it did."""

    peer: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """`remaining`: seconds until it ends, negative afterwards."""

    path: str
    remaining: float


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates that end some day, and how many never do or cannot be read."""

    certificates: tuple[Certificate, ...]
    endless: int = 0


async def gather_dns(host: Host, parameters: DnsParameters) -> Answers:
    """Starts getent once per name: a resolver that hangs inside our own process could not be stopped."""
    names = sysfs.words(parameters.names)
    asked = [_ask(host, name, ["getent", "ahosts", "--", name], parameters.limit) for name in names]
    return Answers(tuple(await asyncio.gather(*asked)))


async def gather_ping(host: Host, parameters: PingParameters) -> Answers:
    """Starts ping once per peer. Raises `NotFound` without it."""
    wait = f"{max(1, round(parameters.limit))}"
    asked = [
        _ask(host, peer, ["ping", "-n", "-q", "-c", "1", "-W", wait, "--", peer], parameters.limit + SLACK)
        for peer in sysfs.words(parameters.peers)
    ]
    return Answers(tuple(await asyncio.gather(*asked)))


async def gather_port(host: Host, parameters: PortParameters) -> Answers:
    """Starts bash once per peer."""
    asked = [
        _ask(host, peer, ["bash", "-c", _CONNECT, "connect", *_split(peer, "22")], parameters.limit)
        for peer in sysfs.words(parameters.peers)
    ]
    return Answers(tuple(await asyncio.gather(*asked)))


async def gather_ssh(host: Host, parameters: SshParameters) -> Answers:
    """Starts bash once per peer and reads sshd's greeting. No login: that would need a key for every node's root."""
    asked = [_greet(host, peer, parameters.limit) for peer in sysfs.words(parameters.peers)]
    return Answers(tuple(await asyncio.gather(*asked)))


async def _greet(host: Host, peer: str, limit: float) -> Answer:
    try:
        answer = await host.run(["bash", "-c", _GREETING, "greeting", *_split(peer, "22")], timeout=limit)
    except TimedOut:
        return Answer(peer, f"no greeting within {limit:g} s")
    if answer.code:
        return Answer(peer, _last_words(answer.err) or "closed the connection without a word")
    return Answer(peer, "" if answer.out.startswith("SSH-") else f"found {answer.out[:40]!r}, expected sshd's greeting")


async def _ask(host: Host, peer: str, argv: Sequence[str], limit: float) -> Answer:
    try:
        answer = await host.run(argv, timeout=limit)
    except TimedOut:
        return Answer(peer, f"no answer within {limit:g} s")
    return Answer(peer, (_last_words(answer.err) or f"exit code {answer.code}") if answer.code else "")


def _split(peer: str, port: str) -> tuple[str, str]:
    """HOST:PORT, [IPv6]:PORT or a host alone."""
    name, colon, number = peer.rpartition(":")
    if not colon or not number.isdecimal() or (":" in name and not name.startswith("[")):
        return peer.strip("[]"), port
    return name.strip("[]"), number


def _last_words(text: str) -> str:
    """bash names script and line before what matters."""
    line = (text.strip().splitlines() or [""])[-1]
    return line.rpartition(": ")[2][:120]


async def gather_certificates(host: Host, _: CertificateParameters) -> Certificates:
    """Starts ssh-keygen once per certificate; where there is none, nothing."""
    found, endless = list[Certificate](), 0
    for path in host.glob("/etc/ssh/ssh_host_*-cert.pub"):
        answer = await host.run(["env", "TZ=UTC0", "ssh-keygen", "-L", "-f", path], timeout=SLACK * 3)
        ends = parse_end(answer.out)
        if ends is None:
            endless += 1
        else:
            found.append(Certificate(path, ends - sysfs.wall_clock(host)))
    return Certificates(tuple(found), endless)


def parse_end(text: str) -> float | None:
    """Parse `ssh-keygen -L`: `Valid: from 2026-01-01T00:00:00 to 2027-01-01T00:00:00`, in UTC.

    Seconds since the epoch, None for a certificate without an end.
    """
    line = next((line for line in text.splitlines() if line.strip().startswith(_VALID)), "")
    try:
        return calendar.timegm(time.strptime(line.rpartition(" to ")[2].strip(), "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def judge_dns(evidence: Answers, _: DnsParameters) -> CheckResult:
    return _judge("net.dns", evidence, "names resolve", "are /etc/resolv.conf and its servers right?")


def judge_ping(evidence: Answers, _: PingParameters) -> CheckResult:
    return _judge("net.ping", evidence, "peers answer", "ip route get PEER; is it the peer that is down?")


def judge_port(evidence: Answers, _: PortParameters) -> CheckResult:
    return _judge("net.port", evidence, "ports take connections", "is the service up, and no firewall between?")


def judge_ssh(evidence: Answers, _: SshParameters) -> CheckResult:
    return _judge("ssh.reach", evidence, "peers greet", "is sshd up there, and MaxStartups not reached?")


def _judge(check: str, evidence: Answers, well: str, hint: str) -> CheckResult:
    silent = [answer for answer in evidence.answers if answer.fault]
    if not silent:
        return CheckResult(check, Severity.OK, f"{len(evidence.answers)} {well}")
    shown = sysfs.some(f"{answer.peer}: {answer.fault}" for answer in silent)
    return CheckResult(check, Severity.WARN, shown, component=silent[0].peer, hint=hint)


def judge_certificates(evidence: Certificates, parameters: CertificateParameters) -> CheckResult:
    """Nobody who trusts certificates alone can log in after the end of one."""
    ending = [each for each in evidence.certificates if each.remaining < parameters.days * 86400]
    if not ending:
        count = len(evidence.certificates) + evidence.endless
        return CheckResult("ssh.certs", Severity.OK, f"{count} host certificates valid" if count else "none here")
    first = min(ending, key=lambda each: each.remaining)
    days = first.remaining / 86400
    when = f"ended {-days:.0f} days ago" if days < 0 else f"ends in {days:.1f} days"
    hint = "have the certificate authority sign the host's key again: ssh-keygen -s CA -h"
    message = f"{first.path}: {when}, expected {parameters.days:g} days"
    return CheckResult("ssh.certs", Severity.WARN, message, component=first.path, hint=hint)


DNS = Check(
    name="net.dns",
    detects="names that do not resolve",
    source="getent ahosts",
    scope=Scope.MACHINE,
    parameters=DnsParameters,
    gather=gather_dns,
    judge=judge_dns,
    evidence=Answers,
    applies=lambda parameters: bool(parameters.names),
    strikes=3,
)

PING = Check(
    name="net.ping",
    detects="a peer that does not answer",
    source="ping",
    scope=Scope.MACHINE,
    parameters=PingParameters,
    gather=gather_ping,
    judge=judge_ping,
    evidence=Answers,
    applies=lambda parameters: bool(parameters.peers),
    strikes=3,
)

PORT = Check(
    name="net.port",
    detects="a service that takes no connection",
    source="bash: /dev/tcp",
    scope=Scope.MACHINE,
    parameters=PortParameters,
    gather=gather_port,
    judge=judge_port,
    evidence=Answers,
    applies=lambda parameters: bool(parameters.peers),
    strikes=3,
)

REACH = Check(
    name="ssh.reach",
    detects="an sshd that does not greet",
    source="bash: /dev/tcp",
    scope=Scope.MACHINE,
    parameters=SshParameters,
    gather=gather_ssh,
    judge=judge_ssh,
    evidence=Answers,
    applies=lambda parameters: bool(parameters.peers),
    contexts=frozenset({Context.ACCEPTANCE}),
    strikes=3,
)

CERTS = Check(
    name="ssh.certs",
    detects="a host certificate of sshd that ends soon",
    source="ssh-keygen -L",
    scope=Scope.MACHINE,
    parameters=CertificateParameters,
    gather=gather_certificates,
    judge=judge_certificates,
    evidence=Certificates,
    contexts=frozenset({Context.ACCEPTANCE}),
)

CHECKS: tuple[AnyCheck, ...] = (DNS, PING, PORT, REACH, CERTS)
