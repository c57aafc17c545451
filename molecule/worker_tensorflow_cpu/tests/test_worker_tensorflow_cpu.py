"""Workers with TensorFlow wait for jobs of their queue, and TensorFlow computes."""

UNIT = "dioptra-worker-tensorflow-cpu@1"
PYTHON = "/opt/mlfleet/worker-tensorflow-cpu/bin/python"
QUEUE = "tensorflow-cpu"


def test_worker_runs(host):
    assert host.service(UNIT).is_running
    assert host.service(UNIT).is_enabled


def test_worker_is_registered_in_redis(registered_workers):
    assert len(registered_workers(QUEUE)) == 1


def test_queue_is_registered_in_the_api(dioptra):
    assert QUEUE in [queue["name"] for queue in dioptra("/queues/", pageLength=50).json()["data"]]


def test_tensorflow_computes(host, in_container):
    program = "import tensorflow as tf; print(tf.__version__, int(tf.reduce_sum([40, 2])))"
    python = f"{in_container(UNIT)}env TF_CPP_MIN_LOG_LEVEL=3 {PYTHON}"
    version, answer = host.check_output(f"{python} -c %s", program).split()
    assert version.startswith("2.17.")
    assert answer == "42"


def test_threads_are_left_to_the_scheduler(environment_of):
    assert {"KMP_AFFINITY=none", "OMP_PROC_BIND=false"} <= set(environment_of(UNIT))
