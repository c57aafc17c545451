"""Workers without a framework wait for jobs of their queue."""

SIGN_OF_DEPLOYMENT = "systemctl cat dioptra-worker-plain@1"
QUEUE = "plain"
COUNT = 2


def test_each_instance_runs(host):
    for instance in range(1, COUNT + 1):
        service = host.service(f"dioptra-worker-plain@{instance}")
        assert service.is_running
        assert service.is_enabled


def test_workers_are_registered_in_redis(registered_workers):
    assert len(registered_workers(QUEUE)) == COUNT


def test_queue_is_registered_in_the_api(dioptra):
    assert QUEUE in [queue["name"] for queue in dioptra("/queues/", pageLength=50).json()["data"]]


def test_stopped_worker_signs_off(host, registered_workers, eventually):
    host.check_output("systemctl stop dioptra-worker-plain@2")
    assert len(registered_workers(QUEUE)) == COUNT - 1
    host.check_output("systemctl start dioptra-worker-plain@2")
    assert eventually(lambda: len(registered_workers(QUEUE)) == COUNT)


def test_worker_extracts_archives_safely(host, in_container):
    python = ". /etc/mlfleet/dioptra-worker-plain.env; PYTHONPATH=$PYTHONPATH /opt/mlfleet/worker-plain/bin/python"
    program = f"{python} -c 'import tarfile; tarfile.data_filter'"
    assert host.run(in_container("dioptra-worker-plain@1") + "sh -c %s", program).rc == 0
