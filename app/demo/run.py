"""`voicegate demo`: a server, a clinic and a caller, all real, in about a minute."""

import asyncio
import statistics
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from app import main as house
from app.core import timeline
from app.demo.backend import clinic_backend
from app.demo.clinic import Appointment, appointments
from app.demo.patient import Patient
from app.load.phone import Phone, dial
from app.load.results import What
from app.providers.espeak import EspeakTts
from app.runtime.actor import Seen
from app.screen import print_entry
from app.served import load_flows
from app.settings import Settings
from flows.model import Voice

CALLER_VOICE = Voice("espeak", "en-us+m3", 150)
CALL_TIMEOUT_S = 150
MAX_BARGE_IN_MS = 500
"""What a caller still takes for "it stopped when I spoke"."""


async def demo(settings: Settings, environment: Mapping[str, str], console: Console) -> list[str]:
    """Run it in the settings' data folder, which is new, and tell it; returns what was not as promised."""
    folder = settings.data_dir
    database = folder / "clinic.sqlite"
    caller = EspeakTts()
    async with clinic_backend(database, latency_ms=150) as variables:
        flows = load_flows(settings)
        calls: list[str] = []
        story = timeline.Timeline()

        def watch(seen: Seen) -> None:
            if seen.call not in calls:
                calls.append(seen.call)
            for entry in story.tell(seen.ms, seen.event, seen.effects, sealed=seen.sealed):
                print_entry(console, entry)

        server = house.Voicegate(settings, flows, {**environment, **variables}, watch=watch)
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(lambda _: ready.set()))
            try:
                await ready.wait()
                await caller.start()
                phone, patient = await _call(server.url, caller, console)
            finally:
                await caller.stop()
                server.stop()
    return _conclude(console, folder, calls, phone, patient, appointments(database))


async def _call(url: str, caller: EspeakTts, console: Console) -> tuple[Phone, Patient]:
    address = url.replace("http", "ws", 1) + "/ws/audio/clinic"
    console.print(f"[dim]a caller dials {address}: 16 kHz, in real time; keys and birth date are withheld[/]\n")

    def tell(what: str) -> None:
        console.print(f"[dim]{'':20}(the caller {what})[/]")

    async with dial(address, caller="+15550100") as phone:
        patient = Patient(phone, caller, CALLER_VOICE, tell)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await patient.call()
                await phone.over.wait()
        except TimeoutError:
            await phone.hang_up()
    return phone, patient


def _conclude(
    console: Console, folder: Path, calls: list[str], phone: Phone, patient: Patient, booked: list[Appointment]
) -> list[str]:
    failures = []
    barge_in = phone.measured(What.barge_in)
    response = phone.measured(What.response)
    wanted = [one for one in booked if (one.day, one.part) == (patient.final_day, patient.part)]
    if len(booked) != 1 or not wanted:
        failures.append(
            f"the clinic's database holds {len(booked)} appointments, of which {len(wanted)} is the one asked for"
        )
    if phone.heard.outcome != "booked" and phone.heard.error:
        failures.append(f"the call failed: {phone.heard.error}")
    if not barge_in or max(barge_in) > MAX_BARGE_IN_MS or not phone.ear.clears:
        failures.append(f"the interruption did not stop the agent: {barge_in or 'it never happened'} ms")
    if not patient.corrected:
        failures.append("the day was never corrected")
    lines = []
    for one in booked:
        lines.append(f"In the clinic's database: {one.day} {one.part}, {one.time}, reference {one.reference}.")
    if barge_in:
        lines.append(f"Interrupted: the agent was silent {barge_in[0]} ms after the caller's first sound.")
    if response:
        lines.append(
            f"Responses: median {statistics.median(response):.0f} ms from the caller's last sound to the agent's first "
            f"({len(response)} turns)."
        )
    if patient.fell_back_to_keys:
        lines.append(f"The caller was not understood and used the keys {patient.fell_back_to_keys} times.")
    for name in sorted((folder / house.RECORDINGS_FOLDER).glob(f"{calls[0] if calls else ''}*.wav")):
        lines.append(f"Recording, caller left and agent right: {name}")
    title = "[bold red]not as promised[/]" if failures else "[bold green]the appointment stands, once[/]"
    console.print()
    console.print(Panel("\n".join(lines + [f"[red]{failure}[/]" for failure in failures]), title=title))
    if calls:
        console.print("Try next:")
        data = f"--data-dir {folder}"
        for command, what in (
            (f"serve --demo {data}", "the same clinic in your browser, and this call in its console"),
            (f"replay {calls[0]} {data}", "every decision made again and compared"),
            ("chat clinic --demo -v", "the same flow, typed by you"),
        ):
            console.print(f"  .venv/bin/voicegate {command}   [dim]# {what}[/]", soft_wrap=True)
    return failures
