"""Exit codes, outcomes, names of environment variables and ports. Standard library only, Python 3.8."""

CONTRACT_VERSION = 1

# Exit codes of a pod's main container.
EXIT_OK = 0
EXIT_USER_ERROR = 2  # configuration or user code; never cured by a retry of the same thing
EXIT_TEMPORARY = 75  # EX_TEMPFAIL: something outside failed; retried
EXIT_STOPPED = 143  # stopped on request after a verified save (or with nothing to save)

# Outcomes of an attempt, in its result.
SUCCEEDED = "succeeded"
GATE_FAILED = "gateFailed"
PREEMPTED = "preempted"  # asked to stop; everything up to the last step is saved
FAILED = "failed"
OUTCOMES = (SUCCEEDED, GATE_FAILED, PREEMPTED, FAILED)

# Environment of every pod.
ENV_STAGE = "MODELYARD_STAGE"  # prepare | train | collect
ENV_RUN_CONFIG = "MODELYARD_RUN_CONFIG"  # path of the run config (JSON)
ENV_STORAGE = "MODELYARD_STORAGE"  # root of the storage layout
ENV_RUN_DIR = "MODELYARD_RUN_DIR"  # runs/<namespace>/<job>-<uid8>, below the storage root
ENV_RUNTIME_DIR = "MODELYARD_RUNTIME_DIR"  # pod-local folder of agent and processes: results, stop request
ENV_AGENT_PORT = "MODELYARD_AGENT_PORT"
ENV_GRACE_SECONDS = "MODELYARD_GRACE_SECONDS"  # the pod's termination grace period
# Environment of train pods.
ENV_ATTEMPT = "MODELYARD_ATTEMPT"
ENV_REACHED_STEP = "MODELYARD_REACHED_STEP"  # the highest step that earlier attempts did
ENV_DATASET = "MODELYARD_DATASET"  # datasets/<digest>, below the storage root
ENV_MODEL = "MODELYARD_MODEL"  # hub/<digest>, below the storage root
ENV_NUM_NODES = "MODELYARD_NUM_NODES"
ENV_NUM_PROC = "MODELYARD_NUM_PROC_PER_NODE"  # a number or auto (torchrun's)
ENV_MASTER_ADDR = "MODELYARD_MASTER_ADDR"  # DNS name of rank 0's pod
ENV_RDZV_PORT = "MODELYARD_RDZV_PORT"
ENV_MAX_PROCESS_RESTARTS = "MODELYARD_MAX_PROCESS_RESTARTS"
# Environment of model servers.
ENV_SERVER_CONFIG = "MODELYARD_SERVER_CONFIG"  # path of the server config (JSON)
ENV_SERVER_PORT = "MODELYARD_SERVER_PORT"
# Of servers that are not ours.
ENV_MODEL_PATH = "MODELYARD_MODEL_PATH"  # the model's folder
ENV_MODEL_NAME = "MODELYARD_MODEL_NAME"  # as callers name it
# Environment of gateways and builds.
ENV_GATEWAY_CONFIG = "MODELYARD_GATEWAY_CONFIG"  # path of the gateway config (JSON)
ENV_BUILD_CONFIG = "MODELYARD_BUILD_CONFIG"  # path of the build config (JSON)

AGENT_PORT = 9400
SERVER_PORT = 8080
GATEWAY_PORT = 8080
GATEWAY_ADMIN_PORT = 9401  # health, metrics and load, not for callers
# For which a gateway or a server that was told to stop goes on accepting, until those who send requests know. Then it
# drains.
ANNOUNCE_SECONDS = 5
RDZV_PORT = 29400

# Files in the runtime folder, written by temp + rename.
STOP_FILE = "stop"  # exists: all ranks shall agree on a step, save and leave
RESULT_FILE = "result.json"  # the process's own result (a TrainResult or PrepareResult)
RANKS_FOLDER = "ranks"  # <pid>.json: which rank a forked process is, as torchrun's variables
FATAL_FILE = "fatal.json"  # a user error that no restart cures: the agent stops torchrun at once

# Of more metrics than there is room for, these are kept: people and columns look at them.
FIRST_METRICS = ("loss", "eval_loss", "grad_norm", "learning_rate")

RUN_CONFIG_PATH = "/modelyard/run/run.json"
RUN_CONFIG_ANNOTATION = "modelyard.dev/run-config"  # of the pod: what the file shows
STORAGE_PATH = "/modelyard/storage"
RUNTIME_PATH = "/modelyard/runtime"
KEYS_PATH = "/modelyard/keys"  # a gateway's Secret of API keys: a file each
SOURCES_PATH = "/modelyard/sources"  # pvc/<claim> and configmap/<name> are mounted below it, read-only
AGENT_PATH = "/opt/modelyard/agent.pyz"
TERMINATION_PATH = "/dev/termination-log"
TERMINATION_LIMIT = 4096  # bytes that the kubelet keeps
