"use strict";
const find = (id) => document.getElementById(id);
const samples = []; // of the last two minutes, one a second
const KEPT = 121, WINDOW = 10;
let status = null;

const headers = () => {
  const key = find("key").value.trim();
  return key ? { "Authorization": "Bearer " + key } : {};
};

/* What a task is asked, where, and what of the answer people want to see. */
const ways = {
  "text-generation": {
    label: "Message",
    ask: (text) => ["/v1/chat/completions", { model: status.name, messages: [{ role: "user", content: text }], stream: true }],
  },
  "embeddings": {
    label: "Text",
    ask: (text) => ["/v1/embeddings", { model: status.name, input: text }],
    read: (told) => {
      const vector = told.data[0].embedding;
      return vector.length + " numbers: " + vector.slice(0, 8).map((x) => x.toFixed(4)).join(", ") + ", …";
    },
  },
  "": {
    label: "Text",
    ask: (text) => ["/v2/models/" + encodeURIComponent(status.name) + "/infer",
      { inputs: [{ name: "text", shape: [1], datatype: "BYTES", data: [text] }] }],
    read: (told) => told.outputs.map((output) => output.name + ": " + output.data.join(", ")).join("\n"),
  },
};
const way = () => {
  if (status.speaks === "oip") return ways[""];
  if (status.speaks === "openai" || status.speaks === "vllm") return ways[status.task === "embeddings" ? "embeddings" : "text-generation"];
  return ways[status.task] || ways[""];
};

function showCurl() {
  const [path, body] = way().ask(find("text").value || "Hello");
  const quote = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const key = status.keys ? " -H 'Authorization: Bearer '\"$KEY\"" : "";
  find("curl").textContent =
    "curl " + quote(location.origin + path) + key + " -H 'Content-Type: application/json' \\\n  -d " + quote(JSON.stringify(body));
}

async function readStream(response, answer) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line.includes("[DONE]")) continue;
      const choice = (JSON.parse(line.slice(6)).choices || [])[0];
      if (choice) answer.textContent += (choice.delta && choice.delta.content) || "";
    }
  }
}

async function send(event) {
  event.preventDefault();
  const answer = find("answer"), took = find("took"), button = find("send"), begun = performance.now();
  answer.hidden = false;
  answer.textContent = "";
  took.textContent = "…";
  button.disabled = true;
  try {
    const [path, body] = way().ask(find("text").value);
    const response = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify(body),
    });
    if ((response.headers.get("content-type") || "").startsWith("text/event-stream")) {
      await readStream(response, answer);
    } else {
      const text = await response.text();
      let told = null;
      try { told = JSON.parse(text); } catch { /* shown as it is */ }
      if (response.ok && told && way().read) answer.textContent = way().read(told);
      else answer.textContent = (told && told.error && (told.error.message || told.error)) || text || "HTTP " + response.status;
    }
    const kept = response.headers.get("x-modelyard-cache");
    took.textContent = Math.round(performance.now() - begun) + " ms" + (kept ? ", cache " + kept : "");
  } catch (error) {
    answer.textContent = String(error);
    took.textContent = "";
  } finally {
    button.disabled = false;
  }
}

/* The latency that this share of the requests didn't exceed, from counts by bucket: the upper bound of its bucket. */
function percentile(bounds, counts, share) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (let index = 0; all && index < counts.length; index++) {
    seen += counts[index];
    if (seen >= share * all) return index < bounds.length ? "≤ " + seconds(bounds[index]) : "> " + seconds(bounds.at(-1));
  }
  return "–";
}
const seconds = (value) => (value < 1 ? +(value * 1000).toFixed(1) + " ms" : value + " s");

function draw() {
  const now = samples.at(-1), past = samples[Math.max(0, samples.length - 1 - WINDOW)];
  const passed = now.time - past.time;
  const counts = now.buckets.map((count, index) => count - past.buckets[index]);
  find("rate").textContent = passed > 0 ? ((now.requests - past.requests) / passed).toFixed(1) : "–";
  find("p50").textContent = percentile(status.bounds, counts, 0.5);
  find("p95").textContent = percentile(status.bounds, counts, 0.95);
  find("failed").textContent = now.failed - past.failed;
  find("queued").textContent = status.queued;
  find("running").textContent = status.running;
  const asked = status.cache.hit + status.cache.shared + status.cache.miss;
  find("hits").textContent = asked ? Math.round(100 * (asked - status.cache.miss) / asked) + " %" : "–";
  const rates = samples.slice(1).map((s, i) => (s.requests - samples[i].requests) / Math.max(0.1, s.time - samples[i].time));
  const most = Math.max(1, ...rates);
  find("line").setAttribute("points", rates.map((rate, i) =>
    (600 - 5 * (rates.length - 1 - i)) + "," + (78 - 74 * rate / most).toFixed(1)).join(" "));
  find("revisions").replaceChildren(...status.revisions.map((revision) => {
    const row = document.createElement("tr");
    row.append(...[revision.name, revision.weight + " %", revision.servers, revision.running].map((text) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      return cell;
    }));
    return row;
  }));
}

function trouble(text) {
  find("trouble").hidden = !text;
  find("trouble").textContent = text;
}

async function look() {
  try {
    const response = await fetch("/-/status", { headers: headers(), cache: "no-store" });
    if (response.status === 401) {
      find("key-row").hidden = false;
      trouble("This model needs an API key: give one above.");
      return;
    }
    if (!response.ok) throw new Error("HTTP " + response.status);
    status = await response.json();
    samples.push({ time: performance.now() / 1000, requests: status.requests, failed: status.failed, buckets: status.buckets });
    if (samples.length > KEPT) samples.shift();
    document.title = status.name + " – Modelyard";
    find("name").textContent = status.name;
    find("about").textContent = (status.task ? "A model for " + status.task : "A model") + ", served by Modelyard.";
    find("text-label").textContent = way().label;
    find("key-row").hidden = !status.keys;
    trouble(status.trouble || "");
    showCurl();
    draw();
  } catch (error) {
    trouble("The gateway can't be reached: " + error.message);
  }
}

find("form").addEventListener("submit", send);
find("text").addEventListener("input", () => status && showCurl());
look();
setInterval(look, 1000);
