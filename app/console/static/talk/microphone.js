// The microphone, and what stands in for it. Failures are {kind, message}.

const NAMES = {
  NotAllowedError: "mic-refused",
  SecurityError: "mic-refused",
  NotFoundError: "mic-missing",
  OverconstrainedError: "mic-missing",
  NotReadableError: "mic-busy",
  AbortError: "mic-busy",
};

export async function openMicrophone(device) {
  if (!isSecureContext) throw { kind: "insecure", message: "" };
  if (!navigator.mediaDevices?.getUserMedia) throw { kind: "unsupported", message: "" };
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: device ? { ...audio, deviceId: { exact: device } } : audio });
  } catch (error) {
    if (device && error.name === "OverconstrainedError") return openMicrophone(""); // it was unplugged
    throw { kind: NAMES[error.name] ?? "mic-missing", message: error.message };
  }
}

let quiet = null;

// A stream with a track that says nothing, for who types instead.
export function silence() {
  quiet ??= new AudioContext();
  return quiet.createMediaStreamDestination().stream;
}

// [{id, name}] of one kind, "audioinput" or "audiooutput"; names are known only after leave was given
export async function devices(kind) {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const named = all.filter((one) => one.kind === kind && one.deviceId && one.deviceId !== "default" && one.deviceId !== "communications");
  return named.map((one, i) => ({ id: one.deviceId, name: one.label || `Device ${i + 1}` }));
}
