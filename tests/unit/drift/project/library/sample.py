"""Ends with the given result."""

from ansible.module_utils.basic import AnsibleModule

if __name__ == "__main__":
    module = AnsibleModule(argument_spec={"result": {"type": "dict"}}, supports_check_mode=True)
    module.exit_json(**module.params["result"])
