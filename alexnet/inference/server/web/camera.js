// The camera: its picture is answered as it moves, and kept when the visitor says so.

import { el, pause } from "./dom.js";
import { addTexts, t } from "./i18n.js";
import { drawn, fileButton } from "./files.js";

addTexts({
  en: { camera: "Use the camera", "keep-picture": "Keep this picture", "close-camera": "Close the camera", "no-camera": "The camera cannot be used: {reason}" },
  zh: { camera: "使用摄像头", "keep-picture": "保留这张照片", "close-camera": "关闭摄像头", "no-camera": "无法使用摄像头：{reason}" },
});

const SIDE = 640; // pixels of a frame's longer side
const PAUSE = 100; // milliseconds between an answer and the next frame

/** Return what takes a photograph: a button that opens the camera in `place`, or the phone's own
 * camera where a page may not use it (away from localhost without https).
 * `take(files)` gets kept pictures; `answer(file, place)` shows the answers of a moving one. */
export function cameraButton(place, take, answer) {
  if (!navigator.mediaDevices?.getUserMedia) {
    return matchMedia("(pointer: coarse)").matches ? fileButton(t("camera"), take, { capture: "environment" }) : null;
  }
  return el("button", { type: "button", onclick: () => openCamera(place, take, answer) }, t("camera"));
}

async function openCamera(place, take, answer) {
  if (place.childElementCount) return;
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch((error) => error);
  if (stream instanceof Error) {
    place.replaceChildren(el("p", { class: "error" }, t("no-camera", { reason: stream.message })));
    return;
  }
  const video = el("video", { autoplay: true, muted: true, playsInline: true, srcObject: stream, "aria-label": t("camera") });
  const answers = el("div", { class: "answers" });
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    place.replaceChildren();
  };
  const keep = async () => take([await frame(video)]);
  place.replaceChildren(video, el("div", {}, answers, el("p", { class: "row" },
    el("button", { type: "button", class: "primary", onclick: keep }, t("keep-picture")),
    el("button", { type: "button", onclick: close }, t("close-camera")))));
  await answerWhileOpen(video, answers, answer);
}

/** Ask about one frame after the other, never about two at once. */
async function answerWhileOpen(video, answers, answer) {
  await new Promise((resolve) => video.addEventListener("playing", resolve, { once: true }));
  try {
    for (;;) {
      await answer(await frame(video), answers);
      await pause(PAUSE, video);
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

async function frame(video) {
  const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = drawn(video, video.videoWidth * scale, video.videoHeight * scale);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return new File([blob], "camera.jpg", { type: "image/jpeg" });
}
