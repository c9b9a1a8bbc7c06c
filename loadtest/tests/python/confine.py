"""Becomes a program that may make no other system calls than those given, as a container runtime or systemd would have it.

confine.py PROFILE PROGRAM ARGUMENT...    PROFILE: a seccomp profile as container runtimes read it (JSON)
"""

import json
import os
import sys

import seccomp

ACTIONS = {"SCMP_ACT_ALLOW": lambda rule: seccomp.ALLOW, "SCMP_ACT_ERRNO": lambda rule: seccomp.ERRNO(rule["errnoRet"])}


def argument(condition):
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return seccomp.Arg(condition["index"], seccomp.MASKED_EQ, condition["value"], condition["valueTwo"])
    if condition["op"] == "SCMP_CMP_EQ":
        return seccomp.Arg(condition["index"], seccomp.EQ, condition["value"])
    raise ValueError(f"{condition} is not understood")


with open(sys.argv[1], encoding="utf-8") as file:
    profile = json.load(file)
rules = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
for rule in profile["syscalls"]:
    action = ACTIONS[rule["action"]](rule)
    for name in rule["names"]:
        try:
            number = seccomp.resolve_syscall(seccomp.Arch(), name)
        except (TypeError, ValueError):
            continue
        # Negative: not of this machine's kind.
        if number >= 0:
            rules.add_rule(action, number, *map(argument, rule.get("args", [])))
rules.load()
os.execv(sys.argv[2], sys.argv[2:])
