"""Exams: the same frozen questions for every run, whatever its objective. See ``conf/evaluation/exams``."""

from ntp.evaluation.exams.exam import Exam, ExamRecipe
from ntp.evaluation.exams.result import Measure, Result

__all__ = ["Exam", "ExamRecipe", "Measure", "Result"]
