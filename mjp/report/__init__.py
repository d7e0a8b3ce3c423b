"""A posterior as a self-contained HTML page."""

from mjp.report.page import write_report as write_report
from mjp.report.verdict import Verdict as Verdict
from mjp.report.verdict import judge as judge
